"""A resolved configuration as text and as hashes, which a run records before its first step."""

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
from dovetail.config.plain import LIVE, live_type, plain
from dovetail.config.schema import RunConfig, sections
from dovetail.config.tree import Node
from dovetail.kernel.build import Part
from dovetail.kernel.secret import Env

#: Settings that do not affect a run's numbers: :func:`numeric_hash` ignores them, and a resumed run may change them.
#: A name includes everything below it. The dataset's fingerprint identifies the data, not its path.
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

#: Settings that affect a run's numbers only through its length: a resumed run may change them too.
LENGTH_KEYS: Final = ("training.max_epochs", "training.max_steps")

_HEADER: Final = "# The resolved configuration of a run, with every default filled in.\n"
_REPEATED: Final = "# `dovetail run` on this file repeats it.\n"
_NOT_REPEATED: Final = "# This file alone cannot rebuild the run: these parts were Python objects:\n"


def freeze(config: RunConfig) -> str:
    """Return the text of ``resolved.toml``: every value, defaults included; secrets by the name of their variable.

    The ``type`` of each part includes its distribution, so that the file means the same wherever it is loaded; loading
    it gives an equal configuration. Of a part that is a Python object the file has only the class, and says so.
    """
    live = [f"# - {path}: {live_type(part.live).removeprefix(LIVE)}\n" for path, part in live_parts(config)]
    notes = "".join([_NOT_REPEATED, *live]) if live else _REPEATED
    table = {name: section for name, section in writable(_resolved(config)).items() if section != {}}
    return f"{_HEADER}{notes}\n{tomli_w.dumps(table)}"


def config_hash(config: RunConfig) -> str:
    """Return the SHA-256 of the whole resolved configuration, in hexadecimal."""
    return _hash(_resolved(config))


def numeric_hash(config: RunConfig) -> str:
    """Return the SHA-256 of everything that may affect the run's numbers: all but :data:`NON_NUMERIC_KEYS`."""
    return _hash(_without(_resolved(config), NON_NUMERIC_KEYS))


def canonical_json(table: Mapping[str, Any]) -> str:
    """Return a plain table as canonical JSON: sorted keys, no spaces, tags for values that JSON does not have."""
    return json.dumps(_taggable(table), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def leaves(config: RunConfig) -> list[tuple[str, Any, Origin]]:
    """Return every setting as (dotted path, plain value, origin); the origin of a default is ``default``."""
    return list(_leaves(config.to_dict(), config.tree, ()))


def origins(config: RunConfig) -> dict[str, str]:
    """Return the origin of each setting, by its dotted path."""
    return {path: str(origin) for path, _, origin in leaves(config)}


def live_parts(config: RunConfig) -> list[tuple[str, Part]]:
    """Return the parts that are Python objects, with their paths."""
    return [(part.path, part) for part in parts_of(config) if part.registered is None]


def writable(value: Any) -> Any:
    """Return a plain value as TOML writes it: ``"@none"`` for None, ``{ env = … }`` for a secret."""
    match value:
        case None:
            return NONE
        case Env():
            return {"env": value.name}
        case Mapping():
            return {name: writable(element) for name, element in value.items()}
        case list():
            return [writable(element) for element in value]
        case _:
            return value


def _resolved(config: RunConfig) -> dict[str, Any]:
    qualified = attrgetter("qualified")
    return {section.name: plain(getattr(config, section.name), qualified) for section in sections()}


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
            return {name: _taggable(element) for name, element in value.items()}
        case list():
            return [_taggable(element) for element in value]
        case float() if not math.isfinite(value):
            return {"@float": repr(value)}
        case dt.date() | dt.time():
            return {f"@{type(value).__name__}": value.isoformat()}
        case _:
            return value


def _leaves(value: Any, node: Node | None, path: KeyPath) -> Iterator[tuple[str, Any, Origin]]:
    if isinstance(value, dict) and (value or not path) and not (node and isinstance(node.value, Env)):
        for name, inner in value.items():
            # Below a leaf of the tree (validate_every = 2 is { epochs = 2 }), everything has the origin of the leaf.
            below = node.table.get(name) if node and isinstance(node.value, dict) else node
            yield from _leaves(inner, below, (*path, name))
    else:
        yield dotted(path), value, node.origin() if node else DEFAULT


def parts_of(value: Any) -> Iterator[Part]:
    """Yield every part in a configuration or in one of its values, including parts in the options of others."""
    match value:
        case Part():
            yield value
            yield from parts_of(dict(value.options))
        case _ if attrs.has(type(value)):
            if not isinstance(value, Node | Env):
                for field in attrs.fields(type(value)):
                    yield from parts_of(getattr(value, field.name))
        case list() | tuple():
            for element in value:
                yield from parts_of(element)
        case Mapping():  # last: an isinstance check against an abstract class caches an entry for every type it sees
            for element in value.values():
                yield from parts_of(element)
