"""Tables with a ``type``: which component is meant, and whether its options are what it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NoReturn, get_args, get_origin

from cattrs import Converter

from dovetail.config.converter import make_converter, mapping_hook
from dovetail.config.diagnostics import found, nearest, with_article
from dovetail.config.errors import FIT_ERRORS, Gathering, MisfitError
from dovetail.config.notation import dotted, visible
from dovetail.config.plain import LIVE, is_plain, plain
from dovetail.config.settings import OfKind
from dovetail.config.table import Live, Slot, Table, fit, fit_table, seen, tables
from dovetail.config.tree import Node
from dovetail.config.validators import construct, default_value, message_of
from dovetail.config.words import part_kind
from dovetail.kernel.build import Part
from dovetail.kernel.component import PluginError, load_target
from dovetail.kernel.kind import Reserved
from dovetail.kernel.plugins import Registered
from dovetail.kernel.signature import MISSING, Parameter, Signature, read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins


class Parts:
    """Makes parts of tables, with the components of one installation."""

    def __init__(self, plugins: Plugins) -> None:
        """Look components up in ``plugins``."""
        self.plugins = plugins
        self._options = make_converter(secrets=True)
        self.teach(self._options)

    def teach(self, converter: Converter) -> None:
        """Let ``converter`` make parts wherever an annotation stands for one."""
        converter.register_structure_hook_factory(lambda t: part_kind(t) is not None, self._hook)
        converter.register_structure_hook_factory(_is_named, _named)

    def _hook(self, annotation: Any) -> Callable[[Any, Any], Part]:
        wanted = part_kind(annotation)
        assert wanted is not None  # noqa: S101 (the hook's predicate)
        return lambda value, _: self.part(value, wanted)

    def part(self, value: Any, wanted: OfKind) -> Part:
        """Return the part that a table, or an object passed from Python, stands for.

        Raises:
            MisfitError: it is neither, or has no ``type``.
            IterableValidationError: its type or its options are wrong.
        """
        table = Table({"type": value}, value.path) if isinstance(value, Live) else value
        if not isinstance(table, Table):
            name = visible(value) if isinstance(value, str) else "…"
            raise MisfitError(f'expected a table such as {{ type = "{name}" }}, got {seen(value)}')
        chosen = table.get("type", wanted.default_type)
        if chosen is None:
            self._refuse_without_type(table, wanted.name)
        gathering = Gathering(Part)
        with gathering.at("type"):
            if isinstance(chosen, Live):
                _check_object(chosen.value, wanted.name)
            else:
                registered = self._find(wanted.name, chosen)
                signature = _read(registered)
        gathering.finish()
        if isinstance(chosen, Live):
            return self._live(table, wanted.name, chosen.value)
        return self._built(table, registered, signature)

    def _refuse_without_type(self, table: Table, kind: str) -> NoReturn:
        gathering = Gathering(Part)
        for meant in [key for key in table if nearest(key, ["type"])]:
            gathering.wrong_key(meant, "unknown key; did you mean 'type'?")
        gathering.finish()
        known = sorted({one.name for one in self.plugins.components(kind)})
        raise MisfitError(f"needs a 'type', the name of a {kind}; there is {', '.join(known) or 'none installed'}")

    def _find(self, kind: str, name: Any) -> Registered:
        if not isinstance(name, str):
            raise MisfitError(f"expected the name of a {kind}, got {seen(name)}")
        if name.startswith(LIVE):
            what = visible(name.removeprefix(LIVE))
            raise MisfitError(f"was a live object of Python ({what}) when this was written; pass it again from Python")
        try:
            return self.plugins.find(kind, name)
        except PluginError as error:
            raise MisfitError(message_of(error)) from error

    def _live(self, table: Table, kind: str, live: Any) -> Part:
        """Return the part of an object from Python; its table may hold what the kind keeps for itself, nothing else."""
        gathering = Gathering(Part)
        reserved, _ = self._reserved(table, kind, {}, f"a {kind} object from Python", gathering)
        gathering.finish()
        return Part(None, kind, dotted(table.path), {}, reserved, live)

    def _built(self, table: Table, registered: Registered, signature: Signature) -> Part:
        kind = registered.kind
        gathering = Gathering(Part)
        slots = {name: _slot(one) for name, one in signature.parameters.items()}
        reserved, options = self._reserved(table, kind, slots, f"{kind} '{registered.name}'", gathering)
        if signature.options_class is not None:
            construct(signature.options_class, options, table, gathering)
        gathering.finish()
        options = {**self._defaults(signature), **options}
        ordered = {name: options[name] for name in signature.parameters if name in options}
        return Part(registered, kind, dotted(table.path), ordered, reserved)

    def _reserved(
        self, table: Table, kind: str, slots: Mapping[str, Slot], whose: str, gathering: Gathering
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the kind keeps for itself, and the part's options."""
        kept = {name: Slot(reserved_type(one)) for name, one in KINDS[kind].reserved.items()}
        entries = Table({name: value for name, value in table.items() if name != "type"}, table.path)
        given = fit_table(self._options, entries, {**kept, **slots}, whose, gathering)
        defaults = {name: self._default(slot, KINDS[kind].reserved[name].default) for name, slot in kept.items()}
        options = {name: value for name, value in given.items() if name not in kept}
        return {**defaults, **{name: given[name] for name in kept if name in given}}, options

    def _default(self, slot: Slot, default: Any) -> Any:
        return fit(self._options, tables(Node.from_python(plain(default))), slot)

    def _defaults(self, signature: Signature) -> dict[str, Any]:
        """Return the defaults that a run file could say, so that a run is recorded with them.

        What the run fills in is left to it, and so is a default that does not come back the same from a run file.
        """
        defaults = {}
        for name, one in signature.parameters.items():
            default = default_value(one.default)
            if one.provided or not one.settable or default is MISSING or not is_plain(plain(default)):
                continue
            with contextlib.suppress(*FIT_ERRORS):
                fitted = self._default(_slot(one), default)
                if type(fitted) in {type(default), float} and fitted == default:
                    defaults[name] = fitted
        return defaults


def _is_named(annotation: Any) -> bool:
    """Tell whether a section is a table of parts, each under a name of its own."""
    values = get_args(annotation)[1:]
    return get_origin(annotation) is dict and get_origin(*values) is Annotated and part_kind(*values) is not None


def _named(annotation: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    structure = mapping_hook(annotation, converter)
    wanted = part_kind(get_args(annotation)[1])
    assert wanted is not None  # noqa: S101 (the hook's predicate)

    def structure_named(value: Any, _: Any) -> Any:
        how = f"each {wanted.name} has a name: write [{wanted.name}s.NAME]"
        if not isinstance(value, Table):
            raise MisfitError(f"{how}, got {seen(value)}")
        if isinstance(value.get("type"), str):
            raise MisfitError(f'{how} with type = "{visible(value["type"])}"')
        return structure(value, annotation)

    return structure_named


#: What a protocol may ask for although its name begins with an underscore.
_CALLED: Final = {"__call__", "__len__", "__getitem__"}


def _check_object(live: Any, kind: str) -> None:
    """Refuse an object from Python that cannot be a part of that kind."""
    if isinstance(live, type):
        raise MisfitError(f"expected {with_article(kind)}, got the class {live.__name__}; make an object of it")
    instead = KINDS[kind].instead
    if instead is not None and hasattr(live, instead):
        return
    needed = [name for name in vars(KINDS[kind].protocol) if name in _CALLED or not name.startswith("_")]
    if lacking := [name for name in needed if not hasattr(live, name)]:
        raise MisfitError(f"expected {with_article(kind)}, got {found(live)} without {' and '.join(lacking)}")


def _read(registered: Registered) -> Signature:
    try:
        return read_signature(registered)
    except PluginError as error:
        raise MisfitError(message_of(error)) from error


def reserved_type(reserved: Reserved) -> Any:
    """Return the type of a key that a kind keeps for itself."""
    annotation = load_target(reserved.annotation) if isinstance(reserved.annotation, str) else reserved.annotation
    return annotation | None if reserved.default is None else annotation


def _slot(parameter: Parameter) -> Slot:
    refusal = ""
    if not parameter.settable:
        refusal = "comes from the run" if parameter.provided else "takes an object that a run file cannot give"
    return Slot(parameter.annotation, parameter.required, parameter.limits, refusal)
