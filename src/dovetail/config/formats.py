"""Configurations as TOML, JSON and OmegaConf: what programs read and write besides the run files of people."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

import tomli_w

from dovetail.config.diagnostics import DEFAULT, PYTHON, ConfigError, Origin, Problem, found
from dovetail.config.document import read_text
from dovetail.config.freeze import writable
from dovetail.config.tree import Entry, Node

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from dovetail.config.schema import RunConfig

#: The beginning of an OmegaConf interpolation, with the backslashes before it.
_DOLLAR: Final = re.compile(r"(\\*)\$\{")


# --- JSON and TOML ----------------------------------------------------------------------------------------------


def load_json(path: str | os.PathLike[str], compose: Callable[[Mapping[str, Any]], Node]) -> Node:
    """Return the tree of a JSON file with other layers over it; values of the file have the file as their origin.

    Args:
        path: the file.
        compose: takes the file's values and lays the other layers over them, as over defaults.

    Raises:
        ConfigError: the file cannot be read, is not JSON, or holds no object.
    """
    name = os.fspath(path)
    try:
        values = json.loads(read_text(name), object_pairs_hook=_without_duplicates)
        if not isinstance(values, dict):
            _refuse(name, f"expected a JSON object, got {found(values)}")
        return _with_origin(compose(values), Origin(name))
    except json.JSONDecodeError as error:
        problem = Problem(Origin(name, error.lineno, error.colno), "", f"is not JSON: {error.msg.lower()}")
        raise ConfigError([problem]) from None
    except RecursionError:
        _refuse(name, "nested too deep")
    except ConfigError:
        raise
    except ValueError as error:  # a duplicate key, or a number with more digits than Python reads
        _refuse(name, str(error).partition(";")[0])


def to_toml(tree: Node) -> str:
    """Return a tree as TOML, which :func:`~dovetail.config.compose.compose` reads back.

    Raises:
        ConfigError: it holds Python objects.
    """
    return tomli_w.dumps(writable(_savable(tree)))


def to_json(tree: Node) -> str:
    """Return a tree as JSON.

    Raises:
        ConfigError: it holds Python objects, or dates, which JSON does not have.
    """
    try:
        return json.dumps(_savable(tree), ensure_ascii=False, indent=2) + "\n"
    except TypeError:
        raise ConfigError([Problem(PYTHON, "", "JSON has no dates and times; save as .toml")]) from None


def _savable(tree: Node) -> Any:
    message = "is a Python object, which a file cannot hold; name a component by its type instead"
    if problems := [entry.problem(message) for entry in _objects(Entry(tree))]:
        raise ConfigError(problems)
    return tree.to_python(secrets_as_tables=True)


def _objects(entry: Entry) -> Iterator[Entry]:
    """Yield the entries that are Python objects."""
    if isinstance(entry.value, dict | list):
        for key in entry.value if isinstance(entry.value, dict) else range(len(entry.value)):
            yield from _objects(entry[key])
    elif entry.is_live:
        yield entry


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return table


def _with_origin(node: Node, origin: Origin) -> Node:
    """Return a tree in which ``origin`` replaces the origin ``default``."""
    value = node.value
    if isinstance(value, dict):
        value = {name: _with_origin(inner, origin) for name, inner in value.items()}
    elif isinstance(value, list):
        value = [_with_origin(inner, origin) for inner in value]
    return node.with_value(value) if node.origin() != DEFAULT else Node(value, lambda: origin, lambda: origin)


def _refuse(name: str, message: str) -> NoReturn:
    raise ConfigError([Problem(Origin(name), "", message)]) from None


# --- OmegaConf --------------------------------------------------------------------------------------------------


def to_omegaconf(config: RunConfig) -> DictConfig:
    """Return ``config``, defaults included, as a ``DictConfig`` (extra ``omegaconf``).

    A secret becomes ``${oc.env:NAME}``, which OmegaConf reads on access; a date becomes text, because OmegaConf has no
    dates; a Python object becomes the name of its class.

    Raises:
        ImportError: OmegaConf is not installed.
    """
    try:
        from omegaconf import OmegaConf
    except ImportError as error:
        raise ImportError("OmegaConf is not installed; pip install 'dovetail[omegaconf]'") from error
    made: DictConfig = OmegaConf.create(_interpolated(config.to_dict()))
    return made


def _interpolated(value: Any) -> Any:
    match value:
        case {"env": str(name), **rest} if not rest:
            return f"${{oc.env:{name}}}"
        case dict():
            return {name: _interpolated(inner) for name, inner in value.items()}
        case list():
            return [_interpolated(inner) for inner in value]
        case str():
            return _DOLLAR.sub(lambda match: rf"{match[1] * 2}\${{", value)
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return value
