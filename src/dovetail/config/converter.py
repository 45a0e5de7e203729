"""The strict cattrs converter: TOML's types are kept, and every refusal says what was expected and what was found.

cattrs by itself would take ``"30"`` for 30, ``3.9`` for 3 and ``"false"`` for True. Here an integer is accepted for a
float, and nothing else is turned into anything else. Tables arrive as :class:`Table`, which know their place.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import attrs
from attrs import frozen
from cattrs import BaseConverter, Converter
from cattrs.cols import list_structure_factory
from cattrs.errors import StructureHandlerNotFoundError

from dovetail.config.diagnostics import found, suggest, toml_type
from dovetail.config.errors import FIT_ERRORS, Gathering, MisfitError
from dovetail.config.hints import unknown_key
from dovetail.config.notation import KeyPath, visible
from dovetail.config.settings import limit_problem
from dovetail.config.tree import Node
from dovetail.config.validators import construct
from dovetail.config.words import ARRAYS, MAPPINGS, PLAIN, accepts, choices, describe, field_types, is_enum, is_union
from dovetail.kernel.kinds import AtLeast, Between, Limit, MoreThan
from dovetail.kernel.secret import Env

Hook = Callable[[Any, Any], Any]

_MAKERS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {tuple: tuple, set: set, frozenset: frozenset}


class Table(dict[str, Any]):
    """A table of plain values that knows its place in the configuration."""

    def __init__(self, entries: Mapping[str, Any], path: KeyPath) -> None:
        """Keep the entries and the way to the table."""
        super().__init__(entries)
        self.path = path


@frozen(eq=False)
class Live:
    """An object passed from Python where a run file has a part, or a value that no run file could give."""

    value: Any
    path: KeyPath = ()


def seen(value: Any) -> str:
    """Return what a value is, for "expected …, got …"."""
    return found(value.value if isinstance(value, Live) else value)


@frozen
class Slot:
    """What one key of a table takes."""

    annotation: Any
    required: bool = False
    limits: tuple[Limit, ...] = ()
    #: Why no run file can set it, if none can.
    refusal: str = ""


def tables(node: Node, path: KeyPath = ()) -> Any:
    """Return the plain value of a tree, its tables as :class:`Table`."""
    match node.value:
        case dict():
            return Table({name: tables(inner, (*path, name)) for name, inner in node.value.items()}, path)
        case list():
            return [tables(inner, (*path, index)) for index, inner in enumerate(node.value)]
        case Live():
            return Live(node.value.value, path)
        case _:
            return node.value if toml_type(node.value) in PLAIN else Live(node.value, path)


def make_converter(*, secrets: bool) -> Converter:
    """Return a converter that is strict about everything but parts, which the caller adds.

    Args:
        secrets: let ``{ env = "NAME" }`` stand for a string, to be read when the run is built.
    """
    converter = Converter()
    for scalar in (bool, int, float, str, Path, dt.datetime, dt.date, dt.time, type(None)):
        converter.register_structure_hook(scalar, _scalar)
    if secrets:
        converter.register_structure_hook(str, _text_or_secret)
        converter.register_structure_hook(Path, _text_or_secret)
    converter.register_structure_hook_func(_is_anything, _anything)
    converter.register_structure_hook_factory(_is_array, _array)
    converter.register_structure_hook_factory(_is_mapping, mapping_hook)
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_factory(_is_section, _section)
    converter.register_structure_hook_factory(is_union, _union)
    converter.register_structure_hook_factory(_is_annotated, _limited)
    return converter


def fit(converter: BaseConverter, value: Any, slot: Slot) -> Any:
    """Return ``value`` as what ``slot`` takes.

    Raises:
        MisfitError: it is something else, or beyond the limits.
        IterableValidationError: several things inside it are.
    """
    if slot.refusal:
        raise MisfitError(slot.refusal)
    try:
        fitted = converter.structure(value, slot.annotation)
    except StructureHandlerNotFoundError:
        raise MisfitError(f"takes {describe(slot.annotation)}, which a run file cannot give") from None
    if problem := limit_problem(slot.limits, fitted):
        raise MisfitError(problem)
    return fitted


def fit_table(
    converter: BaseConverter, table: Table, slots: Mapping[str, Slot], whose: str, gathering: Gathering
) -> dict[str, Any]:
    """Return the entries of ``table`` as what ``slots`` take; what is wrong goes to ``gathering``."""
    settable = [name for name, slot in slots.items() if not slot.refusal]
    for name in table:
        if name not in slots:
            gathering.wrong_key(name, unknown_key(table.path, name, settable, whose))
    fitted: dict[str, Any] = {}
    for name, slot in slots.items():
        if name in table:
            with gathering.at(name):
                fitted[name] = fit(converter, table[name], slot)
        elif slot.required:
            how = slot.refusal or describe(slot.annotation)
            gathering.wrong(f"{whose} needs '{name}' ({how})")
    return fitted


def _scalar(value: Any, annotation: Any) -> Any:
    if is_enum(annotation):  # singledispatch finds str before Enum in the ancestors of a class that is both
        return _choice(value, annotation)
    if toml_type(value) not in accepts(annotation):
        raise MisfitError(f"expected {describe(annotation)}, got {seen(value)}{_without_quotes(value, annotation)}")
    if annotation is float:
        return _as_float(value)
    if annotation is Path:
        if "\0" in value:
            raise MisfitError(f"expected a path, got {seen(value)}, which holds a NUL")
        return Path(value)
    return value


def _text_or_secret(value: Any, annotation: Any) -> Any:
    return value if isinstance(value, Env) and not is_enum(annotation) else _scalar(value, annotation)


def _is_anything(annotation: Any) -> bool:
    return annotation is Any or annotation is object


def _anything(value: Any, _: Any) -> Any:
    match value:
        case Live():
            return value.value
        case dict():
            return {name: _anything(one, Any) for name, one in value.items()}
        case list():
            return [_anything(one, Any) for one in value]
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
    return f"; write {visible(text)} without quotes" if fits else ""


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal or is_enum(annotation)


def _choice(value: Any, annotation: Any) -> Any:
    allowed = choices(annotation)
    for one in allowed:
        if type(one) is type(value) and one == value:
            return annotation(value) if is_enum(annotation) else value
    shown = visible(repr(value)) if isinstance(value, str) else seen(value)
    meant = suggest(value, _words([annotation])) if isinstance(value, str) else ""
    raise MisfitError(f"{shown} is not one of {', '.join(map(repr, allowed))}{meant}")


def _is_array(annotation: Any) -> bool:
    return (get_origin(annotation) or annotation) in ARRAYS


def _array(annotation: Any, converter: BaseConverter) -> Hook:
    origin = get_origin(annotation) or annotation
    make = _MAKERS.get(origin, list)
    elements = get_args(annotation)
    exact = len(elements) if origin is tuple and elements and ... not in elements else None
    every: Any = list[elements[0] if elements else Any]  # type: ignore[misc]  # made at run time
    inner = None if exact is not None else list_structure_factory(every, converter)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list) or exact not in {None, len(value)}:
            raise MisfitError(f"expected {describe(annotation)}, got {seen(value)}")
        if inner is not None:
            return make(inner(value, every))
        gathering, fitted = Gathering(origin), []
        for index, (one, element) in enumerate(zip(value, elements, strict=True)):
            with gathering.at(index):
                fitted.append(fit(converter, one, Slot(element)))
        gathering.finish()
        return tuple(fitted)

    return structure


def _is_mapping(annotation: Any) -> bool:
    return (get_origin(annotation) or annotation) in MAPPINGS


def mapping_hook(annotation: Any, converter: BaseConverter) -> Hook:
    """Return the hook that makes a table of values that are all of one type."""
    key_type, value_type = get_args(annotation) or (str, Any)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise MisfitError(f"expected {describe(annotation)}, got {seen(value)}")
        gathering, fitted = Gathering(dict), {}
        for name, one in value.items():
            with gathering.at(name):
                fitted[_key(name, key_type, converter)] = fit(converter, one, Slot(value_type))
        gathering.finish()
        return fitted

    return structure


def _key(name: str, key_type: Any, converter: BaseConverter) -> Any:
    """Return a key as its type; TOML has only strings, so a whole number may be written as one."""
    if key_type is int and name.removeprefix("-").isdecimal():
        return int(name)
    try:
        return converter.structure(name, key_type)
    except MisfitError as error:
        raise MisfitError(error.message, key=True) from None


def _is_section(annotation: Any) -> bool:
    return attrs.has(annotation)


def _section(cls: type, converter: BaseConverter) -> Hook:
    types = field_types(cls)
    slots = {
        one.alias or one.name: Slot(types[one.name], one.default is attrs.NOTHING)
        for one in attrs.fields(cls)
        if one.name in types
    }

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, Table):
            shown = f"a table with the keys {', '.join(slots)}" if len(slots) <= 4 else "a table"  # noqa: PLR2004 (as many as read well)
            raise MisfitError(f"expected {shown}, got {seen(value)}")
        gathering = Gathering(cls)
        fitted = fit_table(converter, value, slots, "a run file" if not value.path else "this table", gathering)
        made: Any = construct(cls, fitted, value, gathering)
        gathering.finish()
        return made

    return structure


def _union(annotation: Any, converter: BaseConverter) -> Hook:
    members = [one for one in get_args(annotation) if accepts(one)]
    something = [one for one in members if one is not type(None)]

    def structure(value: Any, _: Any) -> Any:
        if value is None and type(None) in members:
            return None
        if len(something) == 1:
            return fit(converter, value, Slot(something[0]))
        # An integer for `float | int` stays one: members that take the value as it is come first.
        taking = sorted((one for one in something if _takes(one, value)), key=lambda one: one is float)
        errors: list[Exception] = []
        for one in taking:
            try:
                return fit(converter, value, Slot(one))
            except FIT_ERRORS as error:
                errors.append(error)
        if errors and not all(map(_is_choice, taking)):
            raise errors[0]
        meant = suggest(value, _words(taking)) if isinstance(value, str) else ""
        raise MisfitError(f"expected {describe(annotation)}, got {seen(value)}{meant}")

    return structure


def _words(annotations: list[Any]) -> list[str]:
    """Return the strings that enumerations and Literals allow."""
    return [one for annotation in annotations for one in choices(annotation) if isinstance(one, str)]


def _takes(annotation: Any, value: Any) -> bool:
    kind = "string" if isinstance(value, Env) else toml_type(value)
    return kind in accepts(annotation)


def _is_annotated(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated


def _limited(annotation: Any, converter: BaseConverter) -> Hook:
    inner, *marks = get_args(annotation)
    limits = tuple(mark for mark in marks if isinstance(mark, Between | AtLeast | MoreThan))
    return functools.partial(_fit_limited, converter, Slot(inner, limits=limits))


def _fit_limited(converter: BaseConverter, slot: Slot, value: Any, _: Any) -> Any:
    return fit(converter, value, slot)
