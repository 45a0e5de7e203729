"""Tables with a ``type``: which component is meant, and whether its options are what it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

from cattrs import Converter

from dovetail.config.converter import Live, Slot, Table, fit, fit_table, make_converter, mapping_hook, tables
from dovetail.config.diagnostics import found, nearest
from dovetail.config.errors import FIT_ERRORS, Gathering, MisfitError
from dovetail.config.notation import dotted, visible
from dovetail.config.plain import LIVE, is_plain, plain
from dovetail.config.settings import OfKind
from dovetail.config.tree import Node
from dovetail.config.validators import FACTORY, construct
from dovetail.config.words import part_kind
from dovetail.kernel.build import Part
from dovetail.kernel.component import PluginError, load_target
from dovetail.kernel.kinds import KINDS, Reserved
from dovetail.kernel.plugins import Plugins, Registered
from dovetail.kernel.signature import MISSING, Parameter, Signature, read_signature


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
        kind = wanted.name
        if not isinstance(value, Table):
            return _live(value, wanted)
        name = value.get("type", wanted.default_type)
        if name is None:
            if key := next((key for key in value if nearest(key, ["type"])), None):
                Gathering(Part).wrong_key(key, "unknown key; did you mean 'type'?")
            known = sorted({one.name for one in self.plugins.components(kind)})
            raise MisfitError(f"needs a 'type', the name of a {kind}; there is {', '.join(known) or 'none installed'}")
        gathering = Gathering(Part)
        with gathering.at("type"):
            registered = self._find(kind, name)
            signature = _read(registered)
        gathering.finish()
        return self._checked(value, kind, registered, signature, gathering)

    def _find(self, kind: str, name: Any) -> Registered:
        if not isinstance(name, str):
            raise MisfitError(f"expected the name of a {kind}, got {found(name)}")
        if name.startswith(LIVE):
            what = visible(name.removeprefix(LIVE))
            raise MisfitError(f"was a live object of Python ({what}) when this was written; pass it again from Python")
        try:
            return self.plugins.find(kind, name)
        except PluginError as error:
            raise MisfitError(str(error)) from error

    def _checked(
        self, table: Table, kind: str, registered: Registered, signature: Signature, gathering: Gathering
    ) -> Part:
        reserved = KINDS[kind].reserved
        slots = {
            **{name: Slot(reserved_type(one)) for name, one in reserved.items()},
            **{name: _slot(one) for name, one in signature.parameters.items()},
        }
        entries = Table({name: value for name, value in table.items() if name != "type"}, table.path)
        given = fit_table(self._options, entries, slots, f"{kind} '{registered.name}'", gathering)
        options = {name: value for name, value in given.items() if name not in reserved}
        if signature.options_class is not None:
            construct(signature.options_class, options, entries, gathering)
        gathering.finish()
        defaults = {name: one for name, one in self._defaults(signature).items() if name not in options}
        return Part(
            registered,
            kind,
            dotted(table.path),
            {**options, **defaults},
            {
                name: given[name] if name in given else self._default(slots[name], one.default)
                for name, one in reserved.items()
            },
        )

    def _default(self, slot: Slot, default: Any) -> Any:
        return fit(self._options, tables(Node.from_python(plain(default))), slot)

    def _defaults(self, signature: Signature) -> dict[str, Any]:
        """Return the defaults that a run file could say, so that a run is recorded with them.

        What the run fills in is left to it, and so is a default that does not come back the same from a run file.
        """
        defaults = {}
        for name, one in signature.parameters.items():
            default = one.default
            if isinstance(default, FACTORY) and not default.takes_self:
                default = default.factory()
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
            raise MisfitError(f"{how}, got {found(value)}")
        if isinstance(value.get("type"), str):
            raise MisfitError(f'{how} with type = "{visible(value["type"])}"')
        return structure(value, annotation)

    return structure_named


def _live(value: Any, wanted: OfKind) -> Part:
    """Return the part of an object from Python, if it can be one."""
    kind = wanted.name
    if not isinstance(value, Live):
        name = value if isinstance(value, str) else "…"
        raise MisfitError(f'expected a table such as {{ type = "{visible(name)}" }}, got {found(value)}')
    live = value.value
    if isinstance(live, type):
        raise MisfitError(f"expected a {kind}, got the class {live.__name__}; make an object of it")
    needed = [name for name in vars(KINDS[kind].protocol) if name == "__call__" or not name.startswith("_")]
    if lacking := [name for name in needed if not hasattr(live, name)]:
        raise MisfitError(f"expected a {kind}, got {found(live)} without {' and '.join(lacking)}")
    return Part(None, kind, dotted(value.path), live=live)


def _read(registered: Registered) -> Signature:
    try:
        return read_signature(registered)
    except PluginError as error:
        raise MisfitError(str(error)) from error


def reserved_type(reserved: Reserved) -> Any:
    """Return the type of a key that a kind keeps for itself."""
    annotation = load_target(reserved.annotation) if isinstance(reserved.annotation, str) else reserved.annotation
    return annotation | None if reserved.default is None else annotation


def _slot(parameter: Parameter) -> Slot:
    refusal = ""
    if not parameter.settable:
        refusal = "comes from the run" if parameter.provided else "takes an object that a run file cannot give"
    return Slot(parameter.annotation, parameter.required, parameter.limits, refusal)
