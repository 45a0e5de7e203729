"""Draw the option tables that a run file could contain for a component, from its signature."""

from __future__ import annotations

import datetime as dt
import enum
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs
from hypothesis import strategies as st

from dovetail.kernel.signature import Parameter, Signature
from dovetail.spec import AtLeast, Between, MoreThan
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins

_INTEGERS: Final = st.integers(-(2**63), 2**63 - 1)  # TOML's range
_FLOATS: Final = st.floats(allow_nan=False)  # nan is not equal to itself
_NAMES: Final = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
_PLAIN: Final = st.one_of(st.booleans(), _INTEGERS, _FLOATS, st.text(max_size=8))
_LISTS: Final = (list, Sequence, Collection, Iterable, set, frozenset)
_SIMPLE: Final[Mapping[Any, st.SearchStrategy[Any]]] = {
    Any: _PLAIN,
    object: _PLAIN,
    bool: st.booleans(),
    str: st.text(max_size=12),
    Path: _NAMES,
    dt.datetime: st.datetimes(),
    dt.date: st.dates(),
    dt.time: st.times(),
}


def tables(signature: Signature, example: Mapping[str, Any], plugins: Plugins) -> st.SearchStrategy[dict[str, Any]]:
    """Draw tables of options: the example, with some options replaced by drawn values of their types.

    The kit does not know rules that involve several fields, so the component may rightly reject a drawn table.
    """
    optional = {}
    for parameter in signature.parameters.values():
        drawn = _parameter(parameter, plugins)
        if drawn is not None:
            optional[parameter.name] = drawn
    return st.fixed_dictionaries({}, optional=optional).map(lambda drawn: {**example, **drawn})


def _parameter(parameter: Parameter, plugins: Plugins) -> st.SearchStrategy[Any] | None:
    if not parameter.settable:
        return None
    annotation = Annotated[(parameter.annotation, *parameter.limits)] if parameter.limits else parameter.annotation
    return _value(annotation, plugins)


def _value(annotation: Any, plugins: Plugins, limits: tuple[Any, ...] = ()) -> st.SearchStrategy[Any] | None:
    """Return a strategy of the TOML values of a type, or None if TOML cannot express the type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value(arguments[0], plugins, (*limits, *arguments[1:]))
    if origin in {Union, types.UnionType}:
        members = [_value(member, plugins, limits) for member in arguments]
        drawable = [member for member in members if member is not None]
        return st.one_of(drawable) if drawable else None
    if origin is Literal:
        return st.sampled_from([value for value in arguments if value is not None])
    if annotation is int:
        return _INTEGERS if not limits else st.integers(*_integer_range(limits))
    if annotation is float:
        return _floats(limits)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if (origin or annotation) in {*_LISTS, tuple, dict, Mapping}:
        return _collection(origin or annotation, arguments, plugins)
    return _class(annotation, plugins)


def _collection(origin: Any, arguments: tuple[Any, ...], plugins: Plugins) -> st.SearchStrategy[Any] | None:
    inner = [_value(argument, plugins) for argument in arguments if argument is not ...]
    if any(strategy is None for strategy in inner):
        return None
    values = typing.cast("list[st.SearchStrategy[Any]]", inner) or [_PLAIN]
    if origin in {dict, Mapping}:
        return st.dictionaries(_NAMES, values[-1] if arguments else _PLAIN, max_size=3)
    if origin is tuple and arguments and ... not in arguments:
        return st.tuples(*values).map(list)
    return st.lists(values[0], max_size=3, unique_by=repr if origin in {set, frozenset} else None)


def _class(annotation: Any, plugins: Plugins) -> st.SearchStrategy[Any] | None:
    """Return a strategy for an attrs class, a component or an enumeration; None for any other class."""
    kind = KINDS.of(annotation)
    if kind:
        names = [
            registered.qualified
            for registered in plugins.components(kind)
            if registered.distribution == "dovetail" and not registered.component.example
        ]
        return st.sampled_from([{"type": name} for name in names[:2]]) if names else None
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return st.sampled_from([member.value for member in annotation])
    if isinstance(annotation, type) and attrs.has(annotation):
        # Deferred: a field may have the type of the class itself.
        return st.deferred(lambda: _fields(annotation, plugins))
    return None


def _fields(options: type[attrs.AttrsInstance], plugins: Plugins) -> st.SearchStrategy[dict[str, Any]]:
    hints = typing.get_type_hints(options, include_extras=True)
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in attrs.fields(options):
        drawn = _value(hints.get(field.name, Any), plugins) if field.init else None
        if drawn is not None:
            (required if field.default is attrs.NOTHING else optional)[field.alias] = drawn
    return st.fixed_dictionaries(required, optional=optional)


def _integer_range(limits: tuple[Any, ...]) -> tuple[int | None, int | None]:
    low, high = _range(limits)
    smallest = None
    if low is not None:
        smallest = math.floor(low) + 1 if _excludes_low(limits) else math.ceil(low)
    return smallest, None if high is None else math.floor(high)


def _floats(limits: tuple[Any, ...]) -> st.SearchStrategy[float]:
    if not limits:
        return _FLOATS
    low, high = _range(limits)
    return st.floats(low, high, exclude_min=_excludes_low(limits), allow_nan=False, allow_infinity=False)


def _excludes_low(limits: tuple[Any, ...]) -> bool:
    return any(isinstance(limit, MoreThan) for limit in limits)


def _range(limits: tuple[Any, ...]) -> tuple[float | None, float | None]:
    lows = [limit.low for limit in limits if isinstance(limit, Between | AtLeast | MoreThan)]
    highs = [limit.high for limit in limits if isinstance(limit, Between)]
    return max(lows, default=None), min(highs, default=None)


def longest_option(signature: Signature) -> str | None:
    """Return the option with the longest name; None if no name is long enough to be recognised when misspelt."""
    options = [parameter.name for parameter in signature.parameters.values() if parameter.settable]
    names = [name for name in options if len(name) > len("lamb")]
    return max(names, key=len, default=None)
