"""The checkpoints of a folder, read from manifests without torch: which there are and were, and which to keep."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import evolve, field, frozen

from dovetail.checkpoint.manifest import MODEL, CheckpointError, Manifest, read_manifest
from dovetail.storage.atomic import is_temporary, write_atomic
from dovetail.storage.errors import storage_error

if TYPE_CHECKING:
    import pandas as pd

#: The name of a checkpoint's folder: its step, and a number if the step was saved more than once.
NAME: Final = re.compile(r"step-(\d{8,18})(?:-(\d{1,9}))?")
HISTORY: Final = "history.json"

_MEGABYTE: Final = 1_000_000
_LOG: Final = logging.getLogger(__name__)


@frozen
class Checkpoint:
    """A saved checkpoint."""

    path: Path
    #: Optimizer updates made when it was saved.
    step: int
    #: Epochs begun when it was saved, counted from 1.
    epoch: int
    #: The metrics it was saved with.
    metrics: Mapping[str, float]
    #: From ``save``: whether it is the best so far. From ``list`` and ``history``: whether it is now the best of all.
    is_best: bool
    #: When it was saved: ISO 8601, UTC.
    timestamp: str
    model_size_mb: float
    #: Size of everything except the model: optimizer, random generators and so on.
    state_size_mb: float
    #: Whether it is still on the disk.
    kept: bool = True

    @classmethod
    def from_manifest(cls, path: Path, manifest: Manifest) -> Self:
        """Return the checkpoint in the folder ``path`` as its manifest describes it.

        Raises:
            CheckpointError: it was not saved by a :class:`~dovetail.checkpoint.store.CheckpointStore`.
        """
        info = manifest.info
        sizes = {name: length / _MEGABYTE for name, (length, _) in manifest.files.items()}
        model_size = sum(size for name, size in sizes.items() if name.startswith(f"{MODEL}."))
        try:
            return cls(
                path,
                step=int(info["step"]),
                epoch=int(info["epoch"]),
                metrics={str(name): float(value) for name, value in info["metrics"].items()},
                is_best=False,
                timestamp=str(info["timestamp"]),
                model_size_mb=model_size,
                state_size_mb=sum(sizes.values()) - model_size,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                path, "this checkpoint was not saved by a run or a CheckpointManager: its manifest has no step"
            ) from error


@frozen
class Retention:
    """The rules that rank checkpoints and say which ones to keep."""

    #: How many of the best to keep, by ``monitor``.
    keep_best: int
    #: How many of the newest to keep.
    keep_last: int
    monitor: str
    mode: Literal["min", "max"] = field()

    def value(self, checkpoint: Checkpoint) -> float | None:
        """Return the monitored metric; None if it is missing or not finite."""
        value = checkpoint.metrics.get(self.monitor)
        return value if value is not None and math.isfinite(value) else None

    def is_better(self, value: float, other: float | None) -> bool:
        """Return whether ``value`` is strictly better than ``other``; any value is better than None."""
        return other is None or (value < other if self.mode == "min" else value > other)

    def ranked(self, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return the checkpoints that have the monitored metric, best first; of equal ones, the oldest first."""
        sign = 1 if self.mode == "min" else -1
        values = [(checkpoint, value) for checkpoint in checkpoints if (value := self.value(checkpoint)) is not None]
        return [checkpoint for checkpoint, _ in sorted(values, key=lambda pair: sign * pair[1])]

    def mark_best(self, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return the checkpoints with ``is_best`` true for the best one only."""
        best = next(iter(self.ranked(checkpoints)), None)
        return [evolve(checkpoint, is_best=checkpoint is best) for checkpoint in checkpoints]

    def expired(self, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return the checkpoints to remove, given all of them from oldest to newest."""
        newest = checkpoints[max(len(checkpoints) - self.keep_last, 0) :]
        keep = {checkpoint.path for checkpoint in (*newest, *self.ranked(checkpoints)[: self.keep_best])}
        return [checkpoint for checkpoint in checkpoints if checkpoint.path not in keep]


# --- folders ----------------------------------------------------------------------------------------------------------


def checkpoint_folders(directory: Path) -> list[Path]:
    """Return the folders named like checkpoints, by step.

    Raises:
        StorageError: ``directory`` cannot be read.
    """
    try:
        entries = list(directory.iterdir())
    except OSError as error:
        raise storage_error(directory, error, "list") from error
    folders = {path.name: path for path in entries if not is_temporary(path.name) and path.is_dir()}
    return [folders[name] for name in sort_by_step(folders)]


def sort_by_step(names: Iterable[str]) -> list[str]:
    """Return the names of checkpoints among ``names``, by step."""
    matches = [match for match in map(NAME.fullmatch, names) if match]
    return [match[0] for match in sorted(matches, key=lambda match: (int(match[1]), int(match[2] or 1)))]


def next_path(directory: Path, step: int, used: Iterable[str] = ()) -> Path:
    """Return the folder for the next checkpoint of ``step``: neither an existing one nor a name in ``used``."""
    matches = [NAME.fullmatch(name) for name in (*used, *(path.name for path in checkpoint_folders(directory)))]
    numbers = [int(match[2] or 1) for match in matches if match and int(match[1]) == step]
    name = f"step-{step:08d}"
    return directory / (f"{name}-{max(numbers) + 1}" if numbers else name)


def list_checkpoints(directory: Path, on_invalid: Callable[[CheckpointError], object]) -> list[Checkpoint]:
    """Return the checkpoints of a folder by step, without reading their contents.

    Args:
        directory: the folder.
        on_invalid: called with the error of each checkpoint that is left out because its manifest or sizes are wrong.
    """
    checkpoints = []
    for path in checkpoint_folders(directory):
        try:
            checkpoints.append(Checkpoint.from_manifest(path, read_manifest(path)))
        except CheckpointError as error:
            if path.is_dir():  # a run may have removed it meanwhile
                on_invalid(error)
    return checkpoints


# --- history: every checkpoint ever saved, even if removed since ------------------------------------------------------


def write_history(directory: Path, checkpoints: Iterable[Checkpoint]) -> None:
    """Write the history file atomically.

    Raises:
        StorageError: it cannot be written.
    """
    records = [
        {
            "name": checkpoint.path.name,
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "timestamp": checkpoint.timestamp,
            "metrics": {
                name: value if math.isfinite(value) else repr(value) for name, value in checkpoint.metrics.items()
            },
            "model_size_mb": checkpoint.model_size_mb,
            "state_size_mb": checkpoint.state_size_mb,
        }
        for checkpoint in checkpoints
    ]
    path = directory / HISTORY
    try:
        write_atomic(path, json.dumps(records, indent=1, allow_nan=False).encode())
    except OSError as error:
        raise storage_error(path, error, "write") from error


def read_history(directory: Path) -> dict[str, Checkpoint]:
    """Return the checkpoints in the history file, by name; a damaged file is ignored with a warning in the log.

    Raises:
        StorageError: the file cannot be read.
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
        for record in json.loads(raw):
            metrics = {str(name): float(value) for name, value in record.pop("metrics").items()}
            name = NAME.fullmatch(record.pop("name"))
            if name:
                history[name[0]] = Checkpoint(directory / name[0], metrics=metrics, is_best=False, **record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        _LOG.warning("%s: the history of checkpoints is damaged; a new one is started", path)
        return {}
    return history


def sort_by_save_order(checkpoints: Iterable[Checkpoint], history: Iterable[str]) -> list[Checkpoint]:
    """Return checkpoints in the order in which they were saved: a new run in the same folder counts from 1 again.

    Args:
        checkpoints: the checkpoints of a folder, by step.
        history: the names in the history, oldest first; checkpoints without a name in it come last.
    """
    positions = {name: position for position, name in enumerate(history)}
    return sorted(checkpoints, key=lambda checkpoint: positions.get(checkpoint.path.name, len(positions)))


def history_frame(checkpoints: Iterable[Checkpoint]) -> pd.DataFrame:
    """Return checkpoints as a DataFrame with one row each, and one column per metric.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("DataFrames need pandas: pip install 'dovetail[pandas]'") from error
    columns = ("epoch", "step", "is_best", "timestamp", "model_size_mb", "state_size_mb", "kept")
    rows = [
        {name: getattr(checkpoint, name) for name in columns}
        | dict(checkpoint.metrics)
        | {"path": str(checkpoint.path)}
        for checkpoint in checkpoints
    ]
    return pd.DataFrame(rows, columns=None if rows else [*columns, "path"])
