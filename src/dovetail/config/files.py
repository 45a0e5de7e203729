"""Configurations as TOML and JSON files, beside the run files that people write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import tomli_w

from dovetail.config.diagnostics import DEFAULT, PYTHON, ConfigError, Origin, Problem, found
from dovetail.config.freeze import writable
from dovetail.config.objects import objects_in, python_values
from dovetail.config.source import read_text
from dovetail.config.tree import Node


def load_json(path: str | os.PathLike[str], compose: Callable[[Mapping[str, Any]], Node]) -> Node:
    """Return the tree of a JSON file, composed with whatever else there is; the file's values say that they are its.

    Args:
        path: the file.
        compose: lays the rest over the file's values, which arrive as the defaults do.

    Raises:
        ConfigError: it cannot be read, is no JSON, or is not a table.
    """
    name = os.fspath(path)
    try:
        values = json.loads(read_text(name), object_pairs_hook=_without_duplicates)
        if not isinstance(values, dict):
            _refuse(name, f"expected a JSON object, got {found(values)}")
        return _from(compose(values), Origin(name))
    except json.JSONDecodeError as error:
        problem = Problem(Origin(name, error.lineno, error.colno), "", f"is not JSON: {error.msg.lower()}")
        raise ConfigError([problem]) from None
    except RecursionError:
        _refuse(name, "nested too deep")
    except ConfigError:
        raise
    except ValueError as error:  # a key twice, or a number of more digits than Python reads
        _refuse(name, str(error).partition(";")[0])


def to_toml(tree: Node) -> str:
    """Return what a tree says as TOML; :func:`~dovetail.config.compose.compose` reads it back.

    Raises:
        ConfigError: it holds objects passed from Python.
    """
    return tomli_w.dumps(writable(_savable(tree)))


def to_json(tree: Node) -> str:
    """Return what a tree says as JSON.

    Raises:
        ConfigError: it holds objects passed from Python, or dates, which JSON has not.
    """
    try:
        return json.dumps(_savable(tree), ensure_ascii=False, indent=2) + "\n"
    except TypeError:
        raise ConfigError([Problem(PYTHON, "", "JSON has no dates and times; save as .toml")]) from None


def _savable(tree: Node) -> Any:
    message = "is an object passed from Python, which no file can hold; name a component by its type instead"
    if problems := [Problem(PYTHON, path, message) for path in objects_in(tree)]:
        raise ConfigError(problems)
    return python_values(tree)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return table


def _from(node: Node, origin: Origin) -> Node:
    """Return a tree whose default values come from ``origin``."""
    value = node.value
    if isinstance(value, dict):
        value = {name: _from(inner, origin) for name, inner in value.items()}
    elif isinstance(value, list):
        value = [_from(inner, origin) for inner in value]
    if node.origin() != DEFAULT:
        return Node(value, node.origin, node.key_origin)
    return Node(value, lambda: origin, lambda: origin)


def _refuse(name: str, message: str) -> NoReturn:
    raise ConfigError([Problem(Origin(name), "", message)]) from None
