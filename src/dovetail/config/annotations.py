"""Type annotations as TOML sees them: which values a type takes, and what a message calls it."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs

from dovetail.config.diagnostics import TOML_TYPES, toml_type
from dovetail.config.fields import OfKind
from dovetail.kernel.build import Part
from dovetail.spec.kinds import KINDS

ARRAYS: Final = (list, tuple, set, frozenset, Sequence, Collection, Iterable)
MAPPINGS: Final = (dict, Mapping)

_SCALARS: Final[dict[Any, tuple[Collection[str], str, str]]] = {  # the TOML types it takes, its singular, its plural
    Any: (TOML_TYPES, "a value", "values"),
    object: (TOML_TYPES, "a value", "values"),
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
    """Tell whether a type is a union, however it is written."""
    return get_origin(annotation) in {Union, types.UnionType}


def is_enum(annotation: Any) -> bool:
    """Tell whether a type is an enumeration."""
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def is_choice(annotation: Any) -> bool:
    """Tell whether a type is a Literal or an enumeration."""
    return get_origin(annotation) is Literal or is_enum(annotation)


def is_scalar(annotation: Any) -> bool:
    """Tell whether a type takes one plain value, or any value at all."""
    return isinstance(annotation, type) and annotation in _SCALARS


def part_kind(annotation: Any) -> OfKind | None:
    """Return the kind of part that an annotation names: by a protocol, or by ``Annotated[Part, OfKind(…)]``."""
    if get_origin(annotation) is Annotated and get_args(annotation)[0] is Part:
        return next(mark for mark in get_args(annotation)[1:] if isinstance(mark, OfKind))
    kind = KINDS.of(annotation)
    return OfKind(kind) if kind else None


def choices(annotation: Any) -> list[Any]:
    """Return the plain values that a Literal or an enumeration allows."""
    return [member.value for member in annotation] if is_enum(annotation) else list(get_args(annotation))


def accepts(annotation: Any) -> frozenset[str]:
    """Return TOML's names of the values that a type may take; empty for a type that TOML cannot express."""
    origin = get_origin(annotation) or annotation
    if is_scalar(annotation):
        return frozenset(_SCALARS[annotation][0])
    if part_kind(annotation):
        return frozenset({"table"})
    if origin is Annotated:
        return accepts(get_args(annotation)[0])
    if is_union(annotation):
        return frozenset().union(*map(accepts, get_args(annotation)))
    if is_choice(annotation):
        return frozenset(map(toml_type, choices(annotation)))
    if origin in ARRAYS:
        return frozenset({"array"})
    return frozenset({"table"}) if origin in MAPPINGS or attrs.has(annotation) else frozenset()


def field_types(cls: Any) -> dict[str, Any]:
    """Return the type of each field of an attrs class that a table may set, by the field's name.

    A class with a name in its annotations that exists only for type checkers has ``Any`` for every field.
    """
    with contextlib.suppress(NameError):
        attrs.resolve_types(cls)
    return {
        field.name: Any if field.type is None or isinstance(field.type, str) else field.type
        for field in attrs.fields(cls)
        if field.init and not field.metadata.get("internal")
    }


def describe(annotation: Any) -> str:
    """Return what a type expects, for "expected …": "an integer", "'mean' or 'sum'", "an array of numbers"."""
    origin = get_origin(annotation) or annotation
    if is_scalar(annotation):
        return _SCALARS[annotation][1]
    if wanted := part_kind(annotation):
        return f"a {wanted.name}, a table such as {{ type = … }}"
    if origin is Annotated:
        return describe(get_args(annotation)[0])
    if is_union(annotation):
        members = [member for member in get_args(annotation) if member is not type(None) and accepts(member)]
        return _either(dict.fromkeys(word for member in members for word in _alternatives(member)))
    if is_choice(annotation):
        return _either(_alternatives(annotation))
    if origin in ARRAYS:
        return _array(annotation)
    return "a table" if accepts(annotation) else f"a {getattr(annotation, '__name__', annotation)} object"


def _either(words: Iterable[str]) -> str:
    """Join alternatives: "a", "a or b", "a, b or c"."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _alternatives(annotation: Any) -> list[str]:
    return list(map(repr, choices(annotation))) if is_choice(annotation) else [describe(annotation)]


def _array(annotation: Any) -> str:
    elements = get_args(annotation)
    if get_origin(annotation) is tuple and ... not in elements:
        plurals = set(map(_plural, elements))
        return f"an array of {len(elements)} {plurals.pop() if len(plurals) == 1 else 'values'}"
    return f"an array of {_plural(elements[0])}" if elements else "an array"


def _plural(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if is_scalar(annotation):
        return _SCALARS[annotation][2]
    if kind := KINDS.of(annotation):
        return f"{kind} tables"
    return "arrays" if accepts(annotation) == {"array"} else "values"
