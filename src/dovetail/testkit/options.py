"""Drawing options from a signature: the tables that a run file could hold for a component."""

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
from dovetail.spec.kinds import KINDS
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.spec.plugins import Plugins

_INTEGERS: Final = st.integers(-(2**63), 2**63 - 1)  # what TOML holds
_FLOATS: Final = st.floats(allow_nan=False)  # nan is not equal to itself, so nothing could be compared
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
    """Draw tables of options: the example with some options set to drawn values of their types.

    Rules across fields are not known here, so a drawn table may be one that the component rightly refuses.
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
    """Return a strategy of plain TOML values of a type, or None where there are none."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value(arguments[0], plugins, (*limits, *arguments[1:]))
    if origin in {Union, types.UnionType}:
        members = [_value(one, plugins, limits) for one in arguments]
        found = [one for one in members if one is not None]
        return st.one_of(found) if found else None
    if origin is Literal:
        return st.sampled_from([one for one in arguments if one is not None])
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
    inner = [_value(one, plugins) for one in arguments if one is not ...]
    if any(one is None for one in inner):
        return None
    values = typing.cast("list[st.SearchStrategy[Any]]", inner) or [_PLAIN]
    if origin in {dict, Mapping}:
        return st.dictionaries(_NAMES, values[-1] if arguments else _PLAIN, max_size=3)
    if origin is tuple and arguments and ... not in arguments:
        return st.tuples(*values).map(list)
    return st.lists(values[0], max_size=3, unique_by=repr if origin in {set, frozenset} else None)


def _class(annotation: Any, plugins: Plugins) -> st.SearchStrategy[Any] | None:
    """Return tables of an attrs class, tables that name a component, or the values of an enumeration."""
    kind = KINDS.of(annotation)
    if kind:
        ready = [
            one.qualified
            for one in plugins.components(kind)
            if one.distribution == "dovetail" and not one.component.example
        ]
        return st.sampled_from([{"type": name} for name in ready[:2]]) if ready else None
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return st.sampled_from([one.value for one in annotation])
    if isinstance(annotation, type) and attrs.has(annotation):
        # Deferred, as a class may have itself in a field.
        return st.deferred(lambda: _fields(annotation, plugins))
    return None


def _fields(options: type[attrs.AttrsInstance], plugins: Plugins) -> st.SearchStrategy[dict[str, Any]]:
    hints = typing.get_type_hints(options, include_extras=True)
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for one in attrs.fields(options):
        drawn = _value(hints.get(one.name, Any), plugins) if one.init else None
        if drawn is not None:
            (required if one.default is attrs.NOTHING else optional)[one.alias] = drawn
    return st.fixed_dictionaries(required, optional=optional)


def _integer_range(limits: tuple[Any, ...]) -> tuple[int | None, int | None]:
    low, high = _range(limits)
    smallest = (
        None
        if low is None
        else math.floor(low) + 1
        if any(isinstance(one, MoreThan) for one in limits)
        else math.ceil(low)
    )
    return smallest, None if high is None else math.floor(high)


def _floats(limits: tuple[Any, ...]) -> st.SearchStrategy[float]:
    if not limits:
        return _FLOATS
    low, high = _range(limits)
    open_below = any(isinstance(one, MoreThan) for one in limits)
    return st.floats(low, high, exclude_min=open_below, allow_nan=False, allow_infinity=False)


def _range(limits: tuple[Any, ...]) -> tuple[float | None, float | None]:
    lows = [one.low for one in limits if isinstance(one, Between | AtLeast | MoreThan)]
    highs = [one.high for one in limits if isinstance(one, Between)]
    return max(lows, default=None), min(highs, default=None)


def misspellable(signature: Signature) -> str | None:
    """Return an option whose name is long enough to be misspelt recognisably, or None."""
    names = [one.name for one in signature.parameters.values() if one.settable and len(one.name) > len("lamb")]
    return max(names, key=len, default=None)
