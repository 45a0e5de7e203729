"""Types in the words of a run file: which TOML values a type takes, and how a message names it."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs

from dovetail.config.diagnostics import toml_type
from dovetail.config.settings import OfKind
from dovetail.kernel.build import Part
from dovetail.spec.kinds import KINDS

ARRAYS: Final = (list, tuple, set, frozenset, Sequence, Collection, Iterable)
MAPPINGS: Final = (dict, Mapping)
#: What a run file can say, by TOML's name for it.
PLAIN: Final = (
    "boolean",
    "integer",
    "float",
    "string",
    "date and time",
    "date",
    "time",
    "array",
    "table",
    "none",
    "secret",
)

_SCALARS: Final[dict[Any, tuple[tuple[str, ...], str, str]]] = {  # the values taken, one in words, several in words
    Any: (PLAIN, "a value", "values"),
    object: (PLAIN, "a value", "values"),
    bool: (("boolean",), "true or false", "booleans"),
    int: (("integer",), "an integer", "integers"),
    float: (("float", "integer"), "a number", "numbers"),
    str: (("string",), "a string", "strings"),
    Path: (("string",), "a path", "paths"),
    dt.datetime: (("date and time",), "a date and time", "dates and times"),
    dt.date: (("date",), "a date", "dates"),
    dt.time: (("time",), "a time", "times"),
    type(None): (("none",), '"@none"', '"@none"'),
}


def is_union(annotation: Any) -> bool:
    """Tell whether a type is a union, however written."""
    return get_origin(annotation) in {Union, types.UnionType}


def is_enum(annotation: Any) -> bool:
    """Tell whether a type is an enumeration."""
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def is_scalar(annotation: Any) -> bool:
    """Tell whether a type is one of those that take one plain value, or any value at all."""
    return isinstance(annotation, type) and annotation in _SCALARS


def part_kind(annotation: Any) -> OfKind | None:
    """Return which parts an annotation stands for: a protocol of a kind, or ``Annotated[Part, OfKind(…)]``."""
    if get_origin(annotation) is Annotated and get_args(annotation)[0] is Part:
        return next(mark for mark in get_args(annotation)[1:] if isinstance(mark, OfKind))
    kind = KINDS.of(annotation)
    return OfKind(kind) if kind else None


def choices(annotation: Any) -> list[Any]:
    """Return the plain values that a Literal or an enumeration allows."""
    return [one.value for one in annotation] if is_enum(annotation) else list(get_args(annotation))


def accepts(annotation: Any) -> frozenset[str]:
    """Return TOML's names of the values that a type may take; empty for a type that TOML cannot say."""
    origin = get_origin(annotation)
    if is_scalar(annotation):
        return frozenset(_SCALARS[annotation][0])
    if part_kind(annotation):
        return frozenset({"table"})
    if origin is Annotated:
        return accepts(get_args(annotation)[0])
    if is_union(annotation):
        return frozenset().union(*map(accepts, get_args(annotation)))
    if origin is Literal or is_enum(annotation):
        return frozenset(map(toml_type, choices(annotation)))
    if annotation in ARRAYS or origin in ARRAYS:
        return frozenset({"array"})
    if annotation in MAPPINGS or origin in MAPPINGS or attrs.has(annotation):
        return frozenset({"table"})
    return frozenset()


def field_types(cls: Any) -> dict[str, Any]:
    """Return the type of each field of an attrs class that a table may set, by the field's name.

    Where a name in its annotations exists only for type checkers, the annotations of that class say nothing.
    """
    with contextlib.suppress(NameError):
        attrs.resolve_types(cls)
    return {
        one.name: Any if one.type is None or isinstance(one.type, str) else one.type
        for one in attrs.fields(cls)
        if one.init and not one.metadata.get("internal")
    }


def describe(annotation: Any) -> str:
    """Return what a type expects, for "expected …": "an integer", "'mean' or 'sum'", "an array of numbers"."""
    origin = get_origin(annotation)
    if is_scalar(annotation):
        return _SCALARS[annotation][1]
    if wanted := part_kind(annotation):
        return f"a {wanted.name}, a table such as {{ type = … }}"
    if origin is Annotated:
        return describe(get_args(annotation)[0])
    if is_union(annotation):
        members = [one for one in get_args(annotation) if one is not type(None) and accepts(one)]
        return either(dict.fromkeys(word for one in members for word in _alternatives(one)))
    if origin is Literal or is_enum(annotation):
        return either(map(repr, choices(annotation)))
    if annotation in ARRAYS or origin in ARRAYS:
        return _array(annotation)
    return "a table" if accepts(annotation) else f"a {getattr(annotation, '__name__', annotation)} object"


def either(words: Iterable[str]) -> str:
    """Join alternatives: "a", "a or b", "a, b or c"."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _alternatives(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal or is_enum(annotation):
        return list(map(repr, choices(annotation)))
    return [describe(annotation)]


def _array(annotation: Any) -> str:
    elements = get_args(annotation)
    if get_origin(annotation) is tuple and ... not in elements:
        several = {_several(one) for one in elements}
        return f"an array of {len(elements)} {several.pop() if len(several) == 1 else 'values'}"
    return f"an array of {_several(elements[0])}" if elements else "an array"


def _several(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if is_scalar(annotation):
        return _SCALARS[annotation][2]
    kind = KINDS.of(annotation)
    if kind:
        return f"{kind} tables"
    return "arrays" if accepts(annotation) == {"array"} else "values"
