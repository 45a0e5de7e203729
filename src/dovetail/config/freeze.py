"""A resolved configuration as text and as hashes: what a run is recorded with, before its first step."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Final

import attrs
import tomli_w

from dovetail.config.diagnostics import DEFAULT, Origin
from dovetail.config.notation import NONE, KeyPath, dotted
from dovetail.config.plain import LIVE, described, plain
from dovetail.config.schema import RunConfig, sections
from dovetail.config.tree import Node
from dovetail.kernel.build import Part
from dovetail.kernel.secret import Env

#: Settings that do not move a run's numbers: outside :func:`numeric_hash`, free to change when a run is resumed.
#: A name stands for everything below it. What the data are is said by the dataset's fingerprint, not by its path.
NON_NUMERIC_KEYS: Final = (
    "run.name",
    "run.experiment",
    "run.notes",
    "run.tags",
    "data.path",
    "loader.num_workers",
    "loader.pin_memory",
    "training.test",
    "training.gradient_checkpointing",
    "trackers",
    "checkpoint.every",
    "checkpoint.best_only",
    "checkpoint.keep_best",
    "checkpoint.keep_last",
    "checkpoint.background",
    "checkpoint.copy_to",
    "checkpoint.copy_patience",
    "checkpoint.resume",
    "paths",
    "logging",
    "report",
    "budget",
    "plugins",
)

#: Settings that move a run's numbers only by how far it goes: also free to change when it is resumed.
LENGTH_KEYS: Final = ("training.max_epochs", "training.max_steps")

_HEADER: Final = "# A run as it was resolved, every default filled in.\n"
_REPEATED: Final = "# `dovetail run` on this file repeats it.\n"
_NOT_REPEATED: Final = "# It cannot be rebuilt from this file alone: these were objects passed from Python:\n"


def freeze(config: RunConfig) -> str:
    """Return ``resolved.toml``: every value, defaults included; secrets by the name of their variable.

    Each part says which distribution it comes from, so that the file means the same wherever it is loaded; loading it
    gives an equal configuration. Parts passed from Python are only described, by their class, and the file says so.
    """
    live = [f"# - {path}: {described(part.live).removeprefix(LIVE)}\n" for path, part in live_parts(config)]
    notes = "".join([_NOT_REPEATED, *live]) if live else _REPEATED
    table = {name: section for name, section in writable(_resolved(config)).items() if section != {}}
    return f"{_HEADER}{notes}\n{tomli_w.dumps(table)}"


def config_hash(config: RunConfig) -> str:
    """Return the SHA-256 of the whole resolved configuration, in hexadecimal."""
    return _hash(_resolved(config))


def numeric_hash(config: RunConfig) -> str:
    """Return the SHA-256 of what may move the run's numbers: everything but :data:`NON_NUMERIC_KEYS`."""
    return _hash(_without(_resolved(config), NON_NUMERIC_KEYS))


def canonical_json(table: Mapping[str, Any]) -> str:
    """Return a plain table as JSON that depends on its values only: sorted keys, no spaces, odd values tagged."""
    return json.dumps(_taggable(table), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def leaves(config: RunConfig) -> list[tuple[str, Any, Origin]]:
    """Return every setting as (dotted path, plain value, origin), what nobody wrote with the origin ``default``."""
    return list(_leaves(config.to_dict(), config.tree, ()))


def origins(config: RunConfig) -> dict[str, str]:
    """Return where each setting comes from, by its dotted path."""
    return {path: str(origin) for path, _, origin in leaves(config)}


def live_parts(config: RunConfig) -> list[tuple[str, Part]]:
    """Return the parts that are objects passed from Python, with their places."""
    return [(part.path, part) for part in parts_of(config) if part.registered is None]


def writable(value: Any) -> Any:
    """Return a plain value as TOML can write it: ``"@none"`` for None, ``{ env = … }`` for a secret."""
    match value:
        case None:
            return NONE
        case Env():
            return {"env": value.name}
        case Mapping():
            return {name: writable(one) for name, one in value.items()}
        case list():
            return [writable(one) for one in value]
        case _:
            return value


def _resolved(config: RunConfig) -> dict[str, Any]:
    qualified = attrgetter("qualified")
    return {one.name: plain(getattr(config, one.name), qualified) for one in sections()}


def _hash(table: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(table).encode("utf-8", "surrogatepass")).hexdigest()


def _without(table: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    kept = {}
    for name, value in table.items():
        below = tuple(key.partition(".")[2] for key in keys if key.partition(".")[0] == name)
        if "" not in below:
            kept[name] = _without(value, below) if below and isinstance(value, Mapping) else value
    return kept


def _taggable(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _taggable(one) for name, one in value.items()}
        case list():
            return [_taggable(one) for one in value]
        case float() if not math.isfinite(value):
            return {"@float": repr(value)}
        case dt.date() | dt.time():
            return {f"@{type(value).__name__}": value.isoformat()}
        case _:
            return value


def _leaves(value: Any, node: Node | None, path: KeyPath) -> Iterator[tuple[str, Any, Origin]]:
    if isinstance(value, dict) and (value or not path) and not (node and isinstance(node.value, Env)):
        for name, inner in value.items():
            # Below a leaf of the tree (validate_every = 2 is { epochs = 2 }) everything comes from where the leaf does.
            below = node.table.get(name) if node and isinstance(node.value, dict) else node
            yield from _leaves(inner, below, (*path, name))
    else:
        yield dotted(path), value, node.origin() if node else DEFAULT


def parts_of(value: Any) -> Iterator[Part]:
    """Yield every part in a configuration, or in a value of one, those inside the options of others too."""
    match value:
        case Part():
            yield value
            yield from parts_of(dict(value.options))
        case _ if attrs.has(type(value)):
            if not isinstance(value, Node | Env):
                for field in attrs.fields(type(value)):
                    yield from parts_of(getattr(value, field.name))
        case list() | tuple():
            for one in value:
                yield from parts_of(one)
        case Mapping():  # last: asking an abstract class about a type keeps a word for each of its subclasses
            for one in value.values():
                yield from parts_of(one)
