"""Reading a factory's signature: its TOML keys, their types, and what the run must provide.

Annotations are resolved parameter by parameter, so that a name which exists only for type checkers affects no other
parameter. Union members that TOML cannot express are dropped (``lr: float | Tensor`` is a float), and a parameter
without a usable annotation accepts any plain value, unchecked. Torch's own signatures need all three.
"""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs
from attrs import frozen

from dovetail.kernel.component import PluginError
from dovetail.kernel.kind import Kind, Kinds, Limit, Provided
from dovetail.kernel.plugins import Registered


class _Missing(enum.Enum):
    MISSING = "MISSING"

    def __str__(self) -> str:
        return self.value


#: The default of a parameter that has none.
MISSING: Final = _Missing.MISSING


class _Inexpressible(enum.Enum):
    INEXPRESSIBLE = "INEXPRESSIBLE"


_INEXPRESSIBLE: Final = _Inexpressible.INEXPRESSIBLE
_PLAIN: Final = (bool, int, float, str, Path, dt.datetime, dt.date, dt.time, type(None))
_COLLECTIONS: Final = (list, tuple, set, frozenset, Sequence, Collection, Iterable)
_MAPPINGS: Final = (dict, Mapping)


@frozen
class Parameter:
    """One keyword parameter of a factory."""

    name: str
    #: Its type without markers, limits and what TOML cannot express; ``Any`` if nothing is known.
    annotation: Any
    default: Any = MISSING
    #: Whether the run provides it if the run file does not set it.
    provided: bool = False
    limits: tuple[Limit, ...] = ()
    #: False if the annotation is not usable, so that any plain TOML value is accepted.
    checked: bool = True
    #: False if no TOML value can fit, as for a tensor.
    settable: bool = True

    @property
    def required(self) -> bool:
        """Whether the run file must set it."""
        return self.default is MISSING and not self.provided


@frozen
class Signature:
    """The parameters of a factory."""

    factory: Callable[..., Any]
    parameters: Mapping[str, Parameter]
    #: The attrs class that replaces the signature, if the component names one.
    options_class: type | None = None
    #: The parameter that takes an instance of ``options_class``; None passes its fields as keywords.
    options_parameter: str | None = None


def read_signature(registered: Registered) -> Signature:
    """Import the target of ``registered`` and read its parameters.

    Raises:
        PluginError: the target cannot be imported, has a signature that names no keys, or has a parameter whose name
            its kind reserves. The message names the plugin and the target.
    """
    component = registered.component
    who = f"{registered.kind} '{registered.name}' of {registered.distribution} ({component.target})"
    try:
        factory, options = component.load(), component.load_options()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{who} cannot be imported: {type(error).__name__}: {error}") from error
    kinds = registered.kinds
    kind = kinds[registered.kind]
    try:
        read = _read_options(factory, options, kind, kinds) if options else _read_factory(factory, kind, kinds)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{who}: {error}") from error
    taken = sorted(set(read.parameters) & {"type", *kind.reserved})
    if taken:
        raise PluginError(
            f"{who} has a parameter '{taken[0]}', which every {kind.name} reserves for the run; rename it"
        )
    return read


def _read_factory(factory: Callable[..., Any], kind: Kind, kinds: Kinds) -> Signature:
    parameters: dict[str, Parameter] = {}
    for name, parameter, annotation in _annotated_parameters(factory):
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            shown = str(parameter.replace(annotation=parameter.empty))
            raise TypeError(f"its signature has '{shown}', which names no TOML key; give the component options=")
        default = MISSING if parameter.default is parameter.empty else parameter.default
        parameters[name] = _parameter(name, annotation, default, kind, kinds)
    return Signature(factory, parameters)


def _read_options(factory: Callable[..., Any], options: type, kind: Kind, kinds: Kinds) -> Signature:
    if not attrs.has(options):
        raise TypeError(f"options {options!r} is not an attrs class")
    namespace = vars(sys.modules.get(options.__module__, types.ModuleType("")))
    parameters: dict[str, Parameter] = {}
    for each in attrs.fields(options):
        if each.init:
            annotation = _resolve(each.type, namespace) if each.type is not None else Any
            default = MISSING if each.default is attrs.NOTHING else each.default
            parameters[each.alias] = _parameter(each.alias, annotation, default, kind, kinds)
    options_parameter = None
    for name, parameter, annotation in _annotated_parameters(factory):
        if annotation is options:
            options_parameter = name
        elif name not in parameters and name in kind.provides and parameter.default is parameter.empty:
            # Provided values go to the factory: the options class is built without them, so that it can be
            # checked early.
            parameters[name] = Parameter(name, Any, provided=True, checked=False, settable=False)
    return Signature(factory, parameters, options, options_parameter)


def _annotated_parameters(factory: Callable[..., Any]) -> Iterator[tuple[str, inspect.Parameter, Any]]:
    """Yield (name, parameter, resolved annotation or ``Any``), without ``self``."""
    if sys.version_info >= (3, 14):  # annotations are evaluated lazily there, and a missing name would raise
        import annotationlib  # there is none before

        signature = inspect.signature(factory, annotation_format=annotationlib.Format.FORWARDREF)
    else:
        signature = inspect.signature(factory)
    # A constructor's annotations refer to names in the module that defines it, which may be a base class's.
    written = inspect.getattr_static(factory, "__init__") if isinstance(factory, type) else factory
    function = inspect.unwrap(written)
    module = sys.modules.get(getattr(factory, "__module__", ""), types.ModuleType(""))
    namespace = {**vars(module), **getattr(function, "__globals__", {})}
    for name, parameter in signature.parameters.items():
        known = parameter.annotation is not parameter.empty
        yield name, parameter, _resolve(parameter.annotation, namespace) if known else Any


def _resolve(annotation: Any, namespace: dict[str, Any]) -> Any:
    """Evaluate an annotation that is a string; ``Any`` if a name in it exists only for type checkers."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, {**vars(typing), **namespace})  # noqa: S307 (the source of an installed package, as typing.get_type_hints does)
    except Exception:  # noqa: BLE001 (an annotation may raise anything, and is then unknown)
        return Any


def _parameter(name: str, annotation: Any, default: Any, kind: Kind, kinds: Kinds) -> Parameter:
    marks: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        marks += more
    expressible = _expressible(annotation, kinds)
    nothing = expressible is _INEXPRESSIBLE or (expressible is type(None) and annotation not in {None, type(None)})
    provided = name in kind.provides and (default is MISSING or Provided in marks)
    return Parameter(
        name,
        Any if nothing else expressible,
        default,
        provided,
        limits=tuple(mark for mark in marks if isinstance(mark, Limit)),
        checked=not nothing and expressible is not Any,
        settable=not nothing and name not in kind.objects,
    )


def _expressible(annotation: Any, kinds: Kinds) -> Any:  # noqa: PLR0911 (one return per form of annotation)
    """Return ``annotation`` without what TOML cannot express, ``Any`` if it is unknown, or ``_INEXPRESSIBLE``."""
    origin = get_origin(annotation)
    if annotation is None:
        return type(None)
    if annotation in {Any, object} or isinstance(annotation, typing.TypeVar | typing.ForwardRef | str):
        return Any
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        said = _expressible(inner, kinds)
        return said if said in {Any, _INEXPRESSIBLE} else Annotated[(said, *marks)]
    if origin in {Union, types.UnionType}:
        members = [
            said for member in get_args(annotation) if (said := _expressible(member, kinds)) is not _INEXPRESSIBLE
        ]
        return Union[tuple(members)] if members else _INEXPRESSIBLE  # noqa: UP007 (built from a list)
    if origin is Literal:
        return annotation
    if origin is tuple or origin in _COLLECTIONS or origin in _MAPPINGS:
        items = [item if item is ... else _expressible(item, kinds) for item in get_args(annotation)]
        return _INEXPRESSIBLE if _INEXPRESSIBLE in items else origin[tuple(items)]
    if annotation is tuple:
        return annotation
    if annotation in _COLLECTIONS or annotation in _MAPPINGS:
        return annotation
    if isinstance(annotation, type) and (
        annotation in _PLAIN or issubclass(annotation, enum.Enum) or attrs.has(annotation) or kinds.of(annotation)
    ):
        return annotation
    return _INEXPRESSIBLE
