"""Which checkpoints a folder has, which are the best, and which to keep: told from manifests, without torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from attrs import evolve, field, frozen

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.manifest import MODEL, Manifest, read_manifest
from dovetail.storage.atomic import is_temporary
from dovetail.storage.errors import storage_error

#: The name of a checkpoint's folder: its step, and a number where a step was saved several times.
NAME: Final = re.compile(r"step-(\d{8,18})(?:-(\d{1,9}))?")

_MEGABYTE: Final = 1_000_000


@frozen
class Checkpoint:
    """A checkpoint that has been saved."""

    path: Path
    #: Optimizer updates made when it was saved.
    step: int
    #: Epochs begun when it was saved, counted from 1.
    epoch: int
    #: The metrics it was saved with.
    metrics: Mapping[str, float]
    #: From ``save``: whether it is the best so far. From ``list`` and ``history``: whether it is the best of all now.
    is_best: bool
    #: When it was saved: ISO 8601, UTC.
    timestamp: str
    model_size_mb: float
    #: Everything but the model: the optimizer, random generators and so on.
    state_size_mb: float
    #: Whether it is still on the disk.
    kept: bool = True


@frozen
class Retention:
    """Which checkpoints are good, and which are kept."""

    #: How many of the best to keep, by ``monitor``.
    keep_best: int
    #: How many of the newest to keep.
    keep_last: int
    monitor: str
    mode: Literal["min", "max"] = field()

    def value(self, checkpoint: Checkpoint) -> float | None:
        """Return the monitored metric; None where it is not there, or not finite."""
        value = checkpoint.metrics.get(self.monitor)
        return value if value is not None and math.isfinite(value) else None

    def better(self, value: float, other: float | None) -> bool:
        """Say whether ``value`` beats another one, and not only equals it."""
        return other is None or (value < other if self.mode == "min" else value > other)

    def ranked(self, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return those that have the monitored metric, the best first; of equals, the oldest."""
        sign = 1 if self.mode == "min" else -1
        values = [(one, value) for one in checkpoints if (value := self.value(one)) is not None]
        return [one for one, _ in sorted(values, key=lambda pair: sign * pair[1])]

    def marked(self, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return them with ``is_best`` said of the best one alone."""
        best = next(iter(self.ranked(checkpoints)), None)
        return [evolve(one, is_best=one is best) for one in checkpoints]

    def superfluous(self, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
        """Return those that need not be kept, given all of them from the oldest to the newest."""
        newest = checkpoints[max(len(checkpoints) - self.keep_last, 0) :]
        keep = {one.path for one in (*newest, *self.ranked(checkpoints)[: self.keep_best])}
        return [one for one in checkpoints if one.path not in keep]


def folders(directory: Path) -> list[Path]:
    """Return the folders that are named like checkpoints, by step.

    Raises:
        StorageError: the folder cannot be read.
    """
    try:
        there = list(directory.iterdir())
    except OSError as error:
        raise storage_error(directory, error, "list") from error
    named = {path.name: path for path in there if not is_temporary(path.name) and path.is_dir()}
    return [named[name] for name in in_order(named)]


def in_order(names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that are checkpoints', by step."""
    matches = [match for match in map(NAME.fullmatch, names) if match]
    return [match[0] for match in sorted(matches, key=lambda match: (int(match[1]), int(match[2] or 1)))]


def free_path(directory: Path, step: int, earlier: Iterable[str] = ()) -> Path:
    """Return where the next checkpoint of ``step`` goes: no name that is there, nor one of those ``earlier``."""
    names = [NAME.fullmatch(name) for name in (*earlier, *(path.name for path in folders(directory)))]
    taken = [int(match[2] or 1) for match in names if match and int(match[1]) == step]
    name = f"step-{step:08d}"
    return directory / (f"{name}-{max(taken) + 1}" if taken else name)


def list_checkpoints(directory: Path, refused: Callable[[CheckpointError], object]) -> list[Checkpoint]:
    """Return the checkpoints of a folder, oldest first; their contents are not read.

    Args:
        directory: the folder.
        refused: called with what is wrong with one whose manifest or sizes are wrong, which is left out.
    """
    found = []
    for path in folders(directory):
        try:
            found.append(checkpoint_of(path, read_manifest(path)))
        except CheckpointError as error:
            if path.is_dir():  # or else a run that goes on has removed it meanwhile
                refused(error)
    return found


def checkpoint_of(path: Path, manifest: Manifest) -> Checkpoint:
    """Return what a manifest tells of the checkpoint in the folder ``path``.

    Raises:
        CheckpointError: it was not saved by a manager.
    """
    info = manifest.info
    sizes = {name: length / _MEGABYTE for name, (length, _) in manifest.files.items()}
    model = sum(size for name, size in sizes.items() if name.startswith(f"{MODEL}."))
    try:
        return Checkpoint(
            path,
            step=int(info["step"]),
            epoch=int(info["epoch"]),
            metrics={str(name): float(value) for name, value in info["metrics"].items()},
            is_best=False,
            timestamp=str(info["timestamp"]),
            model_size_mb=model,
            state_size_mb=sum(sizes.values()) - model,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(path, "this checkpoint was not saved by a manager: its manifest has no step") from error
