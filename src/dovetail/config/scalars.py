"""Plain values, kept as TOML has them: an integer is accepted for a float, and nothing else is converted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, get_origin

from dovetail.config.diagnostics import suggest, toml_type
from dovetail.config.errors import MisfitError
from dovetail.config.notation import visible
from dovetail.config.table import Live, seen
from dovetail.config.words import accepts, choices, describe, is_enum
from dovetail.kernel.secret import Env


def scalar(value: Any, annotation: Any) -> Any:
    """Return a value as the plain type, or the enumeration, that it must be of."""
    if is_enum(annotation):  # singledispatch finds str before Enum in the ancestors of a class that is both
        return choice(value, annotation)
    if toml_type(value) not in accepts(annotation):
        raise MisfitError(f"expected {describe(annotation)}, got {seen(value)}{_without_quotes(value, annotation)}")
    if annotation is float:
        return _as_float(value)
    if annotation is Path:
        if "\0" in value:
            raise MisfitError(f"expected a path, got {seen(value)}, which holds a NUL")
        return Path(value)
    return value


def text_or_secret(value: Any, annotation: Any) -> Any:
    """Return a string, or a path, or a secret as it is."""
    return value if isinstance(value, Env) and not is_enum(annotation) else scalar(value, annotation)


def is_anything(annotation: Any) -> bool:
    """Tell whether nothing is known about a type."""
    return annotation is Any or annotation is object


def anything(value: Any, _: Any) -> Any:
    """Return a value in plain tables and arrays, objects from Python as themselves."""
    match value:
        case Live():
            return value.value
        case dict():
            return {name: anything(one, Any) for name, one in value.items()}
        case list():
            return [anything(one, Any) for one in value]
        case _:
            return value


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise MisfitError("expected a number, got an integer beyond the range of a float") from None


def _without_quotes(value: Any, annotation: Any) -> str:
    """Say so where the value is only quoted, or is a whole number written as a float."""
    if isinstance(value, float) and annotation is int and value.is_integer() and math.isfinite(value):
        return f"; write {int(value)}"
    if not isinstance(value, str) or annotation not in {bool, int, float}:
        return ""
    text = value.strip().lower()
    try:
        fits = text in {"true", "false"} if annotation is bool else annotation(text) is not None
    except ValueError:
        return ""
    return f"; write {visible(text)} without quotes" if fits and text.isascii() else ""


def is_choice(annotation: Any) -> bool:
    """Tell whether a type is one of a few values."""
    return get_origin(annotation) is Literal or is_enum(annotation)


def choice(value: Any, annotation: Any) -> Any:
    """Return the one of the allowed values that is given."""
    allowed = choices(annotation)
    for one in allowed:
        if type(one) is type(value) and one == value:
            return annotation(value) if is_enum(annotation) else value
    shown = visible(repr(value)) if isinstance(value, str) else seen(value)
    meant = suggest(value, strings_of([annotation])) if isinstance(value, str) else ""
    raise MisfitError(f"{shown} is not one of {', '.join(map(repr, allowed))}{meant}")


def strings_of(annotations: list[Any]) -> list[str]:
    """Return the strings that enumerations and Literals allow."""
    return [one for annotation in annotations for one in choices(annotation) if isinstance(one, str)]
