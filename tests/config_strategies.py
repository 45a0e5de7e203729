"""Hypothesis strategies for whole configurations, drawn from the same signatures that check them."""

from __future__ import annotations

import datetime as dt
import enum
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import attrs
from hypothesis import strategies as st

from dovetail.config.annotations import ARRAYS, MAPPINGS, accepts, field_types, is_enum, is_union, part_kind
from dovetail.config.parts import reserved_type
from dovetail.config.schema import sections
from dovetail.kernel.component import PluginError
from dovetail.kernel.secret import Env
from dovetail.kernel.signature import read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.spec.plugins import Plugins

Draw = Callable[[st.SearchStrategy], Any]
Limits = tuple[Any, ...]

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda text: not text.startswith("@"))
_keys = _text.filter(lambda key: key not in {"env", "type"})
_ALPHABET = "abcXYZ019_-"
#: Settings whose text has a form.
_SPECIAL = {
    "run.name": st.text(_ALPHABET, min_size=1, max_size=10),
    "hardware.device": st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
    "budget.wall_clock": st.sampled_from(["9h", "1h30m", "45s", "1.5d"]),
    "budget.memory": st.sampled_from(["16GB", "512 MiB", "1.5tb"]),
    "budget.gpu_memory": st.sampled_from(["16GB", "1kb"]),
    "plugins.require": st.just([]),
}


def numbers(annotation: Any, limits: Limits) -> st.SearchStrategy:
    """Return numbers of a type within limits."""
    low, high, open_low = None, None, False
    for limit in limits:
        match limit:
            case Between():
                low, high = limit.low, limit.high
            case AtLeast():
                low = limit.low
            case MoreThan():
                low, open_low = limit.low, True
    if annotation is int:
        return st.integers(None if low is None else int(low) + open_low, None if high is None else int(high))
    return st.floats(low, high, exclude_min=open_low, allow_nan=False) | st.integers(
        0 if low is None else int(low) + open_low, 10**6 if high is None else int(high)
    )


@functools.cache  # making a strategy costs more than drawing from it
def values(  # noqa: C901, PLR0911 (one branch per sort of type)
    plugins: Plugins, annotation: Any, limits: Limits = (), *, secrets: bool = False
) -> st.SearchStrategy:
    """Return plain values that a type takes."""

    def inner(type_: Any) -> st.SearchStrategy:
        return values(plugins, type_, limits, secrets=secrets)

    origin = get_origin(annotation)
    wanted = part_kind(annotation)
    if wanted:
        return st.deferred(lambda: part_tables(plugins, wanted.name))
    if origin is Annotated:
        first, *marks = get_args(annotation)
        return values(plugins, first, (*limits, *marks), secrets=secrets)
    if is_union(annotation):
        return st.one_of([inner(member) for member in get_args(annotation) if accepts(member)])
    if origin is Literal:
        return st.sampled_from(get_args(annotation))
    if is_enum(annotation):
        return st.sampled_from([member.value for member in annotation])
    if (origin or annotation) in ARRAYS:
        elements = get_args(annotation)
        if origin is tuple and ... not in elements:
            return st.tuples(*map(inner, elements)).map(list)
        return st.lists(inner(elements[0]) if elements else st.integers(), max_size=2)
    if (origin or annotation) in MAPPINGS:
        key, value = get_args(annotation) or (str, int)
        names = st.integers(-9, 99).map(str) if key is int else _keys
        return st.dictionaries(names, inner(value), max_size=2)
    if attrs.has(annotation):
        return st.deferred(lambda: _attrs_tables(plugins, annotation, secrets=secrets))
    secret = st.sampled_from([Env("TOKEN"), Env("_x")])
    return {
        bool: st.booleans(),
        int: numbers(int, limits),
        float: numbers(float, limits),
        str: _text | secret if secrets else _text,
        Path: _text.filter(lambda text: "\0" not in text),
        dt.date: st.dates(),
        dt.datetime: st.datetimes(),
        dt.time: st.times(),
        type(None): st.none(),
    }.get(annotation, st.integers() | _text | st.lists(st.booleans(), max_size=2))


@st.composite
def _attrs_tables(draw: Draw, plugins: Plugins, cls: Any, *, secrets: bool) -> dict[str, Any]:
    """Return tables for an attrs class; the caller has to meet the rules across its fields."""
    table = {}
    types = field_types(cls)
    for field in attrs.fields(cls):
        if field.name in types and (field.default is attrs.NOTHING or draw(st.integers(0, 3)) == 0):
            limits = field.metadata.get("limits", ())
            table[field.alias] = draw(values(plugins, types[field.name], limits, secrets=secrets))
    return table


@functools.cache
def _usable(plugins: Plugins, kind: str) -> list[tuple[Any, Any]]:
    """Return the components of a kind that a run file can build, with their signatures."""
    usable = []
    for registered in plugins.components(kind):
        try:
            signature = read_signature(registered)
        except PluginError:
            continue
        if all(parameter.settable or not parameter.required for parameter in signature.parameters.values()):
            usable.append((registered, signature))
    return usable


@functools.cache
def part_tables(plugins: Plugins, kind: str) -> st.SearchStrategy:
    """Return tables with a type and options that the component's signature takes."""
    return _part_tables(plugins, kind)


@st.composite
def _part_tables(draw: Draw, plugins: Plugins, kind: str) -> dict[str, Any]:
    registered, signature = draw(st.sampled_from(_usable(plugins, kind)))
    table: dict[str, Any] = {"type": draw(st.sampled_from([registered.name, registered.qualified]))}
    for name, key in KINDS[kind].reserved.items():
        if draw(st.integers(0, 4)) == 0 and not isinstance(key.annotation, str):
            table[name] = draw(values(plugins, reserved_type(key)))
    for parameter in signature.parameters.values():
        if parameter.settable and (parameter.required or draw(st.integers(0, 2)) == 0):
            table[parameter.name] = draw(values(plugins, parameter.annotation, parameter.limits, secrets=True))
    return table


@st.composite
def configurations(draw: Draw, plugins: Plugins) -> dict[str, Any]:
    """Return whole configurations as plain tables; most are valid, some break a rule across settings."""
    config: dict[str, Any] = {}
    for section in sections():
        wanted = part_kind(section.type)
        if not (wanted and wanted.default_type is None) and draw(st.integers(0, 2)):
            continue
        if attrs.has(section.type):
            config[section.name] = draw(_section(plugins, section))
        else:
            config[section.name] = draw(values(plugins, section.type))
    return config


@st.composite
def _section(draw: Draw, plugins: Plugins, section: Any) -> Mapping[str, Any]:
    table = draw(_attrs_tables(plugins, section.type, secrets=False))
    for name in table:
        special = _SPECIAL.get(f"{section.name}.{name}")
        if special is not None:
            table[name] = draw(special)
    if table.get("best_only"):
        table.pop("keep_best", None)
        table.pop("keep_last", None)
    if table.get("devices", 1) > 1:
        table["strategy"] = "ddp"
    if table.get("max_epochs", 1) is None:
        table["max_steps"] = 100
    return table


def jsonable(value: Any) -> Any:
    """Return a plain value as a JSON reader of the same TOML file would see it."""
    match value:
        case None:
            return "@none"
        case Env():
            return {"env": value.name}
        case dict():
            return {name: jsonable(inner) for name, inner in value.items()}
        case list():
            return [jsonable(inner) for inner in value]
        case dt.date() | dt.time():
            return value.isoformat()
        case enum.Enum():
            return jsonable(value.value)
        case _:
            return value
