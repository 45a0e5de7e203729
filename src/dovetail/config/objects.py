"""Python values as a tree, and a tree as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from dovetail.config.diagnostics import toml_type
from dovetail.config.schema import sections
from dovetail.config.table import Live
from dovetail.config.tree import Node
from dovetail.config.words import PLAIN, field_types, is_union, part_kind
from dovetail.kernel.secret import Env


def with_objects(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables in which every object that stands for a part is the ``type`` of a table of its own."""
    laid = dict(values)
    for section in sections():
        if section.name not in laid:
            continue
        value = laid[section.name]
        if _is_part(section.type):
            laid[section.name] = _as_part(value)
        elif get_origin(section.type) is dict and isinstance(value, Mapping):
            laid[section.name] = {name: _as_part(one) for name, one in value.items()}
        elif get_origin(section.type) is list and isinstance(value, list | tuple):
            laid[section.name] = [_with_parts(one, *get_args(section.type)) for one in value]
    return laid


def _is_part(annotation: Any) -> bool:
    return any(map(part_kind, get_args(annotation) if is_union(annotation) else (annotation,)))


def _with_parts(value: Any, cls: Any) -> Any:
    """Return a table of an array of sections, the objects in it as tables."""
    parts = {name for name, one in field_types(cls).items() if _is_part(one)}
    if not isinstance(value, Mapping):
        return value
    return {name: _as_part(one) if name in parts else one for name, one in value.items()}


def _as_part(value: Any) -> Any:
    """Return an object as a table; what a run file could say stays as it is, to be checked like one."""
    if isinstance(value, list | tuple) or toml_type(value) not in PLAIN:
        return {"type": value if isinstance(value, Live) else Live(value)}
    return value


def python_values(node: Node) -> Any:
    """Return the plain value of a tree: a secret as its table, an object from Python as itself."""
    match node.value:
        case dict():
            return {name: python_values(inner) for name, inner in node.value.items()}
        case list():
            return [python_values(inner) for inner in node.value]
        case Live():
            return node.value.value
        case Env():
            return {"env": node.value.name}
        case _:
            return node.value


def objects_in(node: Node, path: str = "") -> list[str]:
    """Return the paths of all objects from Python."""
    if isinstance(node.value, dict | list):
        inner = node.value.items() if isinstance(node.value, dict) else enumerate(node.value)
        return [one for name, child in inner for one in objects_in(child, f"{path}.{name}".lstrip("."))]
    return [] if toml_type(node.value) in PLAIN else [path]
