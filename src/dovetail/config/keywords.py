"""Python arguments as layers of configuration: keywords under our names and the documents', and objects as parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin

import attrs
from attrs import frozen

from dovetail.config.aliases import ALIASES, ELSEWHERE
from dovetail.config.annotations import field_types, is_union, part_kind
from dovetail.config.diagnostics import PYTHON, ConfigError, Problem, is_toml, suggest
from dovetail.config.schema import sections
from dovetail.config.tree import Live, Node

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
#: The type of a part that no setting has chosen yet, once one of its options is set.
_DEFAULT_TYPES: Final[Mapping[str, str]] = {
    "model": "transformer",
    "scheduler": "warmup_cosine",
    "callbacks.early_stopping": "early_stopping",
}


@frozen
class Scope:
    """Which settings a ``with_…`` method takes."""

    #: The sections whose settings it takes; if several have one of the same name, the first wins.
    sections: tuple[str, ...] = ()
    #: The aliases that it takes, by the prefixes of their paths; the empty string allows every alias.
    aliases: tuple[str, ...] = ()
    #: The part whose option every other keyword is.
    part: str = ""


def keyword_layer(scope: Scope, settings: Mapping[str, Any], tree: Node) -> dict[str, Any]:
    """Return the keyword arguments of a method as a layer.

    Args:
        scope: what the method takes.
        settings: its keyword arguments.
        tree: the configuration so far.

    Raises:
        ConfigError: carries every keyword that is unknown, and every two that contradict each other.
    """
    problems: list[Problem] = []
    given: dict[str, dict[str, Any]] = {}  # by path: the values of the keywords
    for name, value in settings.items():
        path = _path(scope, name)
        if path is None:
            problems.append(Problem(PYTHON, name, _unknown(scope, name)))
        else:
            given.setdefault(path, {})[name] = value
    result: dict[str, Any] = {}
    for path, values in given.items():
        try:
            _put(result, path, _reconciled(path, values, tree))
        except ValueError as error:
            problems.append(Problem(PYTHON, path, str(error)))
    if problems:
        raise ConfigError(problems)
    for path, kind in _DEFAULT_TYPES.items():
        table = _get(result, path)
        if table is not None and "type" not in table and value_at(tree, f"{path}.type") is None:
            table["type"] = kind
    return result


def _path(scope: Scope, name: str) -> str | None:
    for section in scope.sections:
        if name in _settings(section):
            return f"{section}.{name}"
    target = ALIASES.get(name)
    if target is not None and target.startswith(scope.aliases):
        return target
    return f"{scope.part}.{name}" if scope.part and name not in ELSEWHERE else None


def _unknown(scope: Scope, name: str) -> str:
    if name in ELSEWHERE:
        return f"unknown setting; {ELSEWHERE[name]}"
    own = [setting for section in scope.sections for setting in _settings(section)]
    others = [alias for alias, path in ALIASES.items() if path.startswith(scope.aliases)]
    hint = suggest(name, own) or suggest(name, others)
    if not hint and name in ALIASES:
        hint = f"; it is '{ALIASES[name]}', which another with_… method takes"
    return f"unknown setting{hint or '; there is ' + ', '.join(sorted(own))}"


def _settings(section: str) -> list[str]:
    cls: Any = next(field.type for field in sections() if field.name == section)
    return [field.name for field in attrs.fields(cls)]


def _reconciled(path: str, given: Mapping[str, Any], tree: Node) -> Any:
    """Return the one value of all keywords for one setting."""
    if path == "training.precision":
        return _precision(given, value_at(tree, path))
    values = {name: _converted(name, value) for name, value in given.items()}
    (first, value), *others = values.items()
    for name, other in others:
        if other != value:
            raise ValueError(f"{name} = {given[name]!r} contradicts {first} = {given[first]!r}")
    return value


def _converted(name: str, value: Any) -> Any:
    """Return the value of a setting of the documents in our notation."""
    if name == "stratify_by_age" and isinstance(value, bool):
        return "age" if value else False
    if name == "compile_mode":
        if value not in {None, False, True, "default"}:
            raise ValueError(f"compile_mode = {value!r}: only torch.compile's default mode is supported")
        return bool(value)
    if name == "warmup_ratio" and isinstance(value, int):
        return float(value)  # an integer would be a number of steps
    return value


def _precision(given: Mapping[str, Any], before: Any) -> Any:
    """Reconcile ``precision`` with the switches that only turn mixed precision on or off."""
    named = {name: _PRECISIONS.get(str(value), value) for name, value in given.items() if not isinstance(value, bool)}
    switched = {name: value for name, value in given.items() if name in _SWITCHES and isinstance(value, bool)}
    if len(set(map(str, named.values()))) > 1 or len(set(switched.values())) > 1:
        raise ValueError(f"{_listed(given)} contradict one another")
    wanted = next(iter(named.values()), None)
    if not switched:
        return wanted if named else given["precision"]
    mixed = next(iter(switched.values()))
    if wanted is None:
        kept = before in ({"bf16", "fp16"} if mixed else {"fp32", "tf32"})
        return before if kept else ("bf16" if mixed else "fp32")
    if (wanted in {"bf16", "fp16"}) is not mixed:
        raise ValueError(f"{_listed(given)} contradict one another")
    return wanted


def _listed(given: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} = {value!r}" for name, value in given.items())


def _put(table: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        table = table.setdefault(name, {})
    table[last] = value


def _get(table: Mapping[str, Any], path: str) -> Any:
    found: Any = table
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def value_at(tree: Node, path: str) -> Any:
    """Return the value that a tree has at a dotted path, or None."""
    node: Node | None = tree
    for name in path.split("."):
        node = node.table.get(name) if node else None
    return node.value if node else None


# --- objects ----------------------------------------------------------------------------------------------------


def with_objects(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables in which every object in place of a part is the ``type`` of a table of its own."""
    result = dict(values)
    for section in sections():
        if section.name not in result:
            continue
        value = result[section.name]
        if _is_part(section.type):
            result[section.name] = _as_part(value)
        elif get_origin(section.type) is dict and isinstance(value, Mapping):
            result[section.name] = {name: _as_part(part) for name, part in value.items()}
        elif get_origin(section.type) is list and isinstance(value, list | tuple):
            result[section.name] = [_with_parts(table, *get_args(section.type)) for table in value]
    return result


def _is_part(annotation: Any) -> bool:
    return any(map(part_kind, get_args(annotation) if is_union(annotation) else (annotation,)))


def _with_parts(table: Any, cls: Any) -> Any:
    """Return a table of an array of sections, with tables for the objects in it."""
    parts = {name for name, annotation in field_types(cls).items() if _is_part(annotation)}
    if not isinstance(table, Mapping):
        return table
    return {name: _as_part(value) if name in parts else value for name, value in table.items()}


def _as_part(value: Any) -> Any:
    """Return an object as a table; a value that TOML can express is returned unchanged, to be checked later."""
    if isinstance(value, list | tuple) or not is_toml(value):
        return {"type": value if isinstance(value, Live) else Live(value)}
    return value
