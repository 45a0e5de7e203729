"""Tables with a ``type``: which component each one names, and whether the component takes its options."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args, get_origin

from dovetail.config.annotations import part_kind
from dovetail.config.convert import Converter, Slot, construct, default_value, message_of
from dovetail.config.diagnostics import ConfigError, Problems, found, nearest, with_article
from dovetail.config.fields import OfKind
from dovetail.config.notation import dotted, visible
from dovetail.config.plain import LIVE, is_plain, plain
from dovetail.config.tree import Entry, Live, Node
from dovetail.kernel.build import Part
from dovetail.kernel.component import PluginError, load_target
from dovetail.kernel.kind import Reserved
from dovetail.kernel.plugins import Registered
from dovetail.kernel.signature import MISSING, Parameter, Signature, read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins

#: Methods of a protocol that an object must have although their names begin with an underscore.
_REQUIRED: Final = {"__call__", "__len__", "__getitem__"}


class PartConverter(Converter):
    """A converter that turns tables into parts, with the components of one installation."""

    def __init__(self, plugins: Plugins, *, secrets: bool = False) -> None:
        """Look up components in ``plugins``; only options of parts, at any depth, may be secrets."""
        super().__init__(secrets=secrets)
        self.plugins = plugins
        self._options = self if secrets else PartConverter(plugins, secrets=True)

    def part(self, entry: Entry, wanted: OfKind) -> Part:
        """Return the part that a table, or a Python object, stands for."""
        if entry.is_live:
            entry = Entry(entry.node.with_value({"type": entry.node}), entry.path)
        if not isinstance(entry.value, dict):
            name = visible(entry.value) if isinstance(entry.value, str) else "…"
            raise entry.error(f'expected a table such as {{ type = "{name}" }}, got {entry.found}')
        chosen = entry["type"] if "type" in entry.value else Entry(entry.node.with_value(wanted.default_type))
        if chosen.value is None:
            raise self._without_type(entry, wanted.name)
        if chosen.is_live:
            return self._live(entry, wanted.name, chosen)
        return self._named(entry, self._find(wanted.name, chosen), chosen)

    def mapping(self, entry: Entry, annotation: Any) -> dict[Any, Any]:
        """Return a table whose values are all of one type; in a section of parts, each has a name of its own."""
        _, value_type = get_args(annotation) or (str, Any)
        wanted = part_kind(value_type) if get_origin(value_type) is Annotated else None
        if wanted:
            rule = f"each {wanted.name} has a name: write [{wanted.name}s.NAME]"
            if not isinstance(entry.value, dict):
                raise entry.error(f"{rule}, got {entry.found}")
            if isinstance(name := entry["type"].value, str):
                raise entry.error(f'{rule} with type = "{visible(name)}"')
        return super().mapping(entry, annotation)

    def _without_type(self, entry: Entry, kind: str) -> ConfigError:
        misspelt = [name for name in entry.value if nearest(name, ["type"])]
        if misspelt:
            message = "unknown key; did you mean 'type'?"
            return ConfigError([entry[name].problem(message, key=True) for name in misspelt])
        known = sorted({registered.name for registered in self.plugins.components(kind)})
        return entry.error(f"needs a 'type', the name of a {kind}; there is {', '.join(known) or 'none installed'}")

    def _find(self, kind: str, chosen: Entry) -> Registered:
        name = chosen.value
        if not isinstance(name, str):
            raise chosen.error(f"expected the name of a {kind}, got {chosen.found}")
        if name.startswith(LIVE):
            cls = visible(name.removeprefix(LIVE))
            raise chosen.error(f"was a Python object ({cls}) when this file was written; pass it from Python again")
        try:
            return self.plugins.find(kind, name)
        except PluginError as error:
            raise chosen.error(message_of(error)) from error

    def _live(self, entry: Entry, kind: str, chosen: Entry) -> Part:
        """Return the part of a Python object; its table may hold the kind's reserved keys only."""
        live = chosen.value.value if isinstance(chosen.value, Live) else chosen.value
        if lack := _lack(live, kind):
            raise chosen.error(f"expected {with_article(kind)}, got {lack}")
        problems = Problems()
        reserved, _ = self._reserved(entry, kind, {}, f"a {kind} object from Python", problems)
        problems.finish()
        return Part(None, kind, dotted(entry.path), {}, reserved, live)

    def _named(self, entry: Entry, registered: Registered, chosen: Entry) -> Part:
        try:
            signature = read_signature(registered)
        except PluginError as error:
            raise chosen.error(message_of(error)) from error
        kind, problems = registered.kind, Problems()
        slots = {name: _slot(parameter) for name, parameter in signature.parameters.items()}
        reserved, options = self._reserved(entry, kind, slots, f"{kind} '{registered.name}'", problems)
        if signature.options_class is not None:
            construct(signature.options_class, options, entry, problems)
        problems.finish()
        options = {**self._defaults(signature), **options}
        ordered = {name: options[name] for name in signature.parameters if name in options}
        return Part(registered, kind, dotted(entry.path), ordered, reserved)

    def _reserved(
        self, entry: Entry, kind: str, slots: Mapping[str, Slot], owner: str, problems: Problems
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the values of the kind's reserved keys, and the part's options."""
        reserved = KINDS[kind].reserved
        kept = {name: Slot(reserved_type(key)) for name, key in reserved.items()}
        written = {name: node for name, node in entry.value.items() if name != "type"}
        options = self._options.fit_table(
            Entry(entry.node.with_value(written), entry.path), {**kept, **slots}, owner, problems
        )
        values = {name: self._default(slot, reserved[name].default) for name, slot in kept.items()}
        values |= {name: options.pop(name) for name in kept if name in options}
        return values, options

    def _default(self, slot: Slot, default: Any) -> Any:
        return self._options.fit(Entry(Node.from_python(plain(default))), slot)

    def _defaults(self, signature: Signature) -> dict[str, Any]:
        """Return the defaults that a run file can express, so that the record of a run includes them.

        It leaves out what the run provides, and a default that a run file would not read back unchanged.
        """
        defaults = {}
        for name, parameter in signature.parameters.items():
            default = default_value(parameter.default)
            if parameter.provided or not parameter.settable or default is MISSING or not is_plain(plain(default)):
                continue
            with contextlib.suppress(ConfigError):
                fitted = self._default(_slot(parameter), default)
                if type(fitted) in {type(default), float} and fitted == default:
                    defaults[name] = fitted
        return defaults


def _lack(live: Any, kind: str) -> str | None:
    """Return what keeps a Python object from being a part of a kind, in words; None if nothing does."""
    if isinstance(live, type):
        return f"the class {live.__name__}; make an object of it"
    instead = KINDS[kind].instead
    if instead is not None and hasattr(live, instead):
        return None
    needed = [name for name in vars(KINDS[kind].protocol) if name in _REQUIRED or not name.startswith("_")]
    lacking = [name for name in needed if not hasattr(live, name)]
    return f"{found(live)} without {' and '.join(lacking)}" if lacking else None


def reserved_type(reserved: Reserved) -> Any:
    """Return the type of a key that a kind reserves."""
    annotation = load_target(reserved.annotation) if isinstance(reserved.annotation, str) else reserved.annotation
    return annotation | None if reserved.default is None else annotation


def _slot(parameter: Parameter) -> Slot:
    refusal = ""
    if not parameter.settable:
        refusal = "comes from the run" if parameter.provided else "takes an object that a run file cannot give"
    return Slot(parameter.annotation, parameter.required, parameter.limits, refusal)
