"""Keyword arguments as settings: our own names and the documents', by one table, to a layer of configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
from attrs import frozen

from dovetail.config.aliases import ALIASES, ELSEWHERE
from dovetail.config.diagnostics import PYTHON, ConfigError, Problem, suggest
from dovetail.config.schema import sections
from dovetail.config.tree import Node

_PRECISIONS: Final[Mapping[str, str]] = {
    "16": "fp16",
    "16-mixed": "fp16",
    "32": "fp32",
    "32-true": "fp32",
    "bf16-mixed": "bf16",
    "fp16-mixed": "fp16",
    "no": "fp32",
}
_SWITCHES: Final = ("amp", "mixed_precision", "use_amp")
#: The parts that a setting of theirs brings into being.
_DEFAULT_TYPES: Final[Mapping[str, str]] = {
    "model": "transformer",
    "scheduler": "warmup_cosine",
    "callbacks.early_stopping": "early_stopping",
}


@frozen
class Scope:
    """Which settings a ``with_…`` method takes."""

    #: The sections whose own settings it takes, the first that has one winning.
    sections: tuple[str, ...] = ()
    #: Where the aliases that it takes may lead, as beginnings of paths; the empty string is everywhere.
    aliases: tuple[str, ...] = ()
    #: The part that every other keyword is an option of.
    part: str = ""


def layer(scope: Scope, settings: Mapping[str, Any], tree: Node) -> dict[str, Any]:
    """Return the layer that ``settings`` mean.

    Args:
        scope: what the method takes.
        settings: its keyword arguments.
        tree: what the configuration says so far.

    Raises:
        ConfigError: carries every keyword that is unknown, and every pair that says two things about one setting.
    """
    problems: list[Problem] = []
    given: dict[str, dict[str, Any]] = {}  # by path: what each keyword says
    for name, value in settings.items():
        path = _path(scope, name)
        if path is None:
            problems.append(Problem(PYTHON, name, _unknown(scope, name)))
        else:
            given.setdefault(path, {})[name] = value
    result: dict[str, Any] = {}
    for path, said in given.items():
        try:
            _put(result, path, _one_value(path, said, tree))
        except ValueError as error:
            problems.append(Problem(PYTHON, path, str(error)))
    if problems:
        raise ConfigError(problems)
    for path, kind in _DEFAULT_TYPES.items():
        table = _get(result, path)
        if table is not None and "type" not in table and written(tree, f"{path}.type") is None:
            table["type"] = kind
    return result


def _path(scope: Scope, name: str) -> str | None:
    for section in scope.sections:
        if name in _settings(section):
            return f"{section}.{name}"
    target = ALIASES.get(name)
    if target is not None and any(target.startswith(start) for start in scope.aliases):
        return target
    return f"{scope.part}.{name}" if scope.part and name not in ELSEWHERE else None


def _unknown(scope: Scope, name: str) -> str:
    if name in ELSEWHERE:
        return f"unknown setting; {ELSEWHERE[name]}"
    own = [one for section in scope.sections for one in _settings(section)]
    others = [one for one, path in ALIASES.items() if any(path.startswith(start) for start in scope.aliases)]
    meant = suggest(name, own) or suggest(name, others)
    if not meant and name in ALIASES:
        meant = f"; it is '{ALIASES[name]}', for another with_… method"
    listed = ", ".join(sorted(own))
    return f"unknown setting{meant or f'; there is {listed}'}"


def _settings(section: str) -> list[str]:
    cls: Any = next(one.type for one in sections() if one.name == section)
    return [one.name for one in attrs.fields(cls)]


def _one_value(path: str, said: Mapping[str, Any], tree: Node) -> Any:
    if path == "training.precision":
        return _precision(said, written(tree, path))
    values = {name: _converted(name, value) for name, value in said.items()}
    (first, value), *others = values.items()
    for name, other in others:
        if other != value:
            raise ValueError(f"{name} = {said[name]!r} contradicts {first} = {said[first]!r}")
    return value


def _converted(name: str, value: Any) -> Any:
    """Return the value that one of the documents' settings has here."""
    if name == "stratify_by_age" and isinstance(value, bool):
        return "age" if value else False
    if name == "compile_mode":
        if value not in {None, False, True, "default"}:
            raise ValueError(f"compile_mode = {value!r}: only torch.compile's default mode is supported")
        return bool(value)
    if name == "warmup_ratio" and isinstance(value, int):
        return float(value)  # a whole number would be a number of steps
    return value


def _precision(said: Mapping[str, Any], before: Any) -> Any:
    """Reconcile ``precision`` with switches for mixed precision, which only say whether."""
    named = {name: _PRECISIONS.get(str(value), value) for name, value in said.items() if not isinstance(value, bool)}
    switched = {name: value for name, value in said.items() if name in _SWITCHES and isinstance(value, bool)}
    if len(set(map(str, named.values()))) > 1 or len(set(switched.values())) > 1:
        raise ValueError(f"{_listed(said)} contradict one another")
    wanted = next(iter(named.values()), None)
    if not switched:
        return wanted if named else said["precision"]
    mixed = next(iter(switched.values()))
    if wanted is None:
        kept = before in ({"bf16", "fp16"} if mixed else {"fp32", "tf32"})
        return before if kept else ("bf16" if mixed else "fp32")
    if (wanted in {"bf16", "fp16"}) is not mixed:
        raise ValueError(f"{_listed(said)} contradict one another")
    return wanted


def _listed(said: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} = {value!r}" for name, value in said.items())


def _put(table: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    for name in way:
        table = table.setdefault(name, {})
    table[last] = value


def _get(table: Mapping[str, Any], path: str) -> Any:
    found: Any = table
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def written(tree: Node, path: str) -> Any:
    """Return the value that a tree has at a dotted path, or None."""
    node: Node | None = tree
    for name in path.split("."):
        node = node.table.get(name) if node else None
    return node.value if node else None
