"""The strict cattrs converter: TOML's types are kept, and every refusal says what was expected and what was found.

cattrs by itself would take ``"30"`` for 30, ``3.9`` for 3 and ``"false"`` for True. Here an integer is accepted for a
float, and nothing else is turned into anything else. Tables arrive as :class:`Table`, which know their place.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import attrs
from cattrs import BaseConverter, Converter
from cattrs.cols import list_structure_factory

from dovetail.config.diagnostics import suggest, toml_type
from dovetail.config.errors import FIT_ERRORS, Gathering, MisfitError
from dovetail.config.scalars import anything, choice, is_anything, is_choice, scalar, strings_of, text_or_secret
from dovetail.config.table import Slot, Table, fit, fit_table, seen
from dovetail.config.validators import construct
from dovetail.config.words import ARRAYS, MAPPINGS, accepts, describe, field_types, is_union
from dovetail.kernel.secret import Env
from dovetail.spec.limits import AtLeast, Between, MoreThan

Hook = Callable[[Any, Any], Any]

_MAKERS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {tuple: tuple, set: set, frozenset: frozenset}


def make_converter(*, secrets: bool) -> Converter:
    """Return a converter that is strict about everything but parts, which the caller adds.

    Args:
        secrets: let ``{ env = "NAME" }`` stand for a string, to be read when the run is built.
    """
    converter = Converter()
    for plain in (bool, int, float, str, Path, dt.datetime, dt.date, dt.time, type(None)):
        converter.register_structure_hook(plain, scalar)
    if secrets:
        converter.register_structure_hook(str, text_or_secret)
        converter.register_structure_hook(Path, text_or_secret)
    converter.register_structure_hook_func(is_anything, anything)
    converter.register_structure_hook_factory(_is_array, _array)
    converter.register_structure_hook_factory(_is_mapping, mapping_hook)
    converter.register_structure_hook_func(is_choice, choice)
    converter.register_structure_hook_factory(_is_section, _section)
    converter.register_structure_hook_factory(is_union, _union)
    converter.register_structure_hook_factory(_is_annotated, _limited)
    return converter


def _is_array(annotation: Any) -> bool:
    return (get_origin(annotation) or annotation) in ARRAYS


def _array(annotation: Any, converter: BaseConverter) -> Hook:
    origin = get_origin(annotation) or annotation
    make = _MAKERS.get(origin, list)
    elements = get_args(annotation)
    exact = len(elements) if origin is tuple and elements and ... not in elements else None
    every: Any = list[elements[0] if elements else Any]  # type: ignore[misc]  # made at run time
    known = elements and not is_anything(elements[0])
    inner = None if exact is not None else (list_structure_factory(every, converter) if known else anything)

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
        if errors and not all(map(is_choice, taking)):
            raise errors[0]
        meant = suggest(value, strings_of(taking)) if isinstance(value, str) else ""
        raise MisfitError(f"expected {describe(annotation)}, got {seen(value)}{meant}")

    return structure


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
