"""The history of a folder of checkpoints: every one that was ever saved there, the removed ones too."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dovetail.checkpoint.listing import NAME, Checkpoint
from dovetail.storage.atomic import write_atomic
from dovetail.storage.errors import storage_error

if TYPE_CHECKING:
    import pandas as pd

HISTORY: Final = "history.json"
_LOG: Final = logging.getLogger(__name__)


def write_history(directory: Path, checkpoints: Iterable[Checkpoint]) -> None:
    """Replace the history file, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    records = [
        {
            "name": one.path.name,
            "step": one.step,
            "epoch": one.epoch,
            "timestamp": one.timestamp,
            "metrics": {key: value if math.isfinite(value) else repr(value) for key, value in one.metrics.items()},
            "model_size_mb": one.model_size_mb,
            "state_size_mb": one.state_size_mb,
        }
        for one in checkpoints
    ]
    path = directory / HISTORY
    try:
        write_atomic(path, json.dumps(records, indent=1, allow_nan=False).encode())
    except OSError as error:
        raise storage_error(path, error, "write") from error


def read_history(directory: Path) -> dict[str, Checkpoint]:
    """Return what the history file tells, by the checkpoint's name; one that is damaged is done without.

    Raises:
        StorageError: the disk does not give it.
    """
    history: dict[str, Checkpoint] = {}
    path = directory / HISTORY
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return history
    except OSError as error:
        raise storage_error(path, error, "read") from error
    try:
        for one in json.loads(raw):
            metrics = {str(name): float(value) for name, value in one.pop("metrics").items()}
            name = NAME.fullmatch(one.pop("name"))
            if name:
                history[name[0]] = Checkpoint(directory / name[0], metrics=metrics, is_best=False, **one)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        _LOG.warning("%s: the history of checkpoints is damaged and begins anew", path)
        return {}
    return history


def in_saving_order(checkpoints: Iterable[Checkpoint], saved: Iterable[str]) -> list[Checkpoint]:
    """Return checkpoints in the order in which they were saved: who begins anew in a folder counts from 1 again.

    Args:
        checkpoints: by step, as a folder lists them.
        saved: the names in a history, the oldest first; what is not in it comes last.
    """
    places = {name: place for place, name in enumerate(saved)}
    return sorted(checkpoints, key=lambda one: places.get(one.path.name, len(places)))


def history_frame(checkpoints: Iterable[Checkpoint]) -> pd.DataFrame:
    """Return a history as a DataFrame, one row a checkpoint, one column a metric.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("DataFrames come with pandas: pip install 'dovetail[pandas]'") from error
    facts = ("epoch", "step", "is_best", "timestamp", "model_size_mb", "state_size_mb", "kept")
    rows = [
        {name: getattr(one, name) for name in facts} | dict(one.metrics) | {"path": str(one.path)}
        for one in checkpoints
    ]
    return pd.DataFrame(rows, columns=None if rows else [*facts, "path"])
