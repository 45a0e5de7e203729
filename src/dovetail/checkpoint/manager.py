"""Which checkpoints there are, which is the best, and which to keep."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, final

from attrs import evolve, field, frozen

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.format import Encoded, write_checkpoint
from dovetail.checkpoint.manifest import Manifest, read_manifest
from dovetail.checkpoint.verify import verify
from dovetail.storage.atomic import make_folder, reap, remove_folder, unfinished, write_atomic
from dovetail.storage.errors import storage_error

if TYPE_CHECKING:
    import pandas as pd

_LOG: Final = logging.getLogger(__name__)
_NAME: Final = re.compile(r"step-(\d{8,18})(?:-(\d{1,9}))?")
_HISTORY: Final = "history.json"
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


# The manager has a method named `list`, which inside it would stand in the way of the type.
Checkpoints = list[Checkpoint]
Paths = list[Path]


def _absolute(path: Path | str) -> Path:
    return Path(path).expanduser().absolute()


@final
@frozen
class CheckpointManager:
    """Saves checkpoints in a folder, and keeps the best and the newest of them.

    A checkpoint is the folder ``step-00001200`` (a second one of the same step is ``step-00001200-2``) in the format of
    :mod:`dovetail.checkpoint.format`. Old ones are removed only when a new one is on the disk. What a killed save left
    behind is removed.

    Raises:
        ValueError: a number is too small, or the mode unknown.
        StorageError: the folder cannot be made.
    """

    directory: Path = field(converter=_absolute)
    #: How many of the best to keep, by ``monitor``; 0 keeps none for being good.
    keep_best: int = 3
    #: How many of the newest to keep, at least 1, so that a run can be resumed.
    keep_last: int = 5
    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    _history: dict[str, Checkpoint] = field(factory=dict, init=False, repr=False, eq=False)
    _warned: set[Path] = field(factory=set, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Make the folder, clear it of leftovers and read its history."""
        if self.keep_best < 0:
            raise ValueError(f"keep_best must be at least 0, got {self.keep_best}")
        if self.keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, got {self.keep_last}")
        if self.mode not in {"min", "max"}:
            raise ValueError(f"mode must be 'min' or 'max', got {self.mode!r}")
        try:
            make_folder(self.directory)
        except OSError as error:
            raise storage_error(self.directory, error, "make a folder of") from error
        reap(self.directory)
        self._history.update(self._read_history())

    def save(
        self, step: int, epoch: int, metrics: Mapping[str, float], state: Mapping[str, Any] | Encoded
    ) -> Checkpoint:
        """Save ``state`` and then remove the checkpoints that need not be kept any longer.

        A metric that is NaN or infinite never makes a checkpoint the best, and neither does one that is missing.

        Args:
            step: optimizer updates made so far.
            epoch: the epoch, from 1.
            metrics: any scalars; ``monitor`` is looked up among them.
            state: a tree of what parts return from ``state_dict``; what is under ``model`` gets a file of its own.

        Raises:
            TypeError: the state holds what cannot be kept; the message names the path to it.
            StorageError: it cannot be written; the checkpoints that were there still are.
        """
        path = self._free_path(step)
        scalars = {str(name): float(value) for name, value in metrics.items()}
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        manifest = write_checkpoint(path, state, {"step": step, "epoch": epoch, "metrics": scalars, "timestamp": now})
        saved = _checkpoint(path, manifest)
        value = self._value(saved)
        is_best = value is not None and all(self._better(value, self._value(one)) for one in self._history.values())
        self._history[path.name] = saved
        self._prune()
        self._write_history()
        return evolve(saved, is_best=is_best)

    def list(self) -> Checkpoints:
        """Return the checkpoints on the disk, oldest first, those whose manifest or sizes are wrong left out and named.

        Their contents are not read; :func:`~dovetail.checkpoint.verify.verify` does that.
        """
        return self._marked([one for one in map(self._listed, self._folders()) if one is not None])

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, every byte verified; None if there is none.

        One that is damaged is passed over with a warning in the log that names the file at fault.
        """
        return self._first_valid(reversed(self.list()))

    def best(self) -> Checkpoint | None:
        """Return the best checkpoint on the disk, None if none has the monitored metric; of equals, the oldest.

        Its contents are verified when it is read. Where they turn out damaged, :meth:`ranked` gives the next.
        """
        return next(iter(self.ranked()), None)

    def ranked(self) -> Checkpoints:
        """Return the checkpoints on the disk that have the monitored metric, the best first."""
        sign = 1 if self.mode == "min" else -1
        values = [(one, value) for one in self.list() if (value := self._value(one)) is not None]
        return [one for one, _ in sorted(values, key=lambda pair: sign * pair[1])]

    def history(self) -> Checkpoints:
        """Return every checkpoint ever saved here, removed ones too, in the order they were saved."""
        there = {path.name for path in self._folders()}
        return self._marked([evolve(one, kept=one.path.name in there) for one in self._history.values()])

    def history_frame(self) -> pd.DataFrame:
        """Return :meth:`history` as a DataFrame, one row a checkpoint, one column a metric.

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
            for one in self.history()
        ]
        return pd.DataFrame(rows, columns=None if rows else [*facts, "path"])

    # --- which ------------------------------------------------------------------------------------------------------

    def _value(self, checkpoint: Checkpoint) -> float | None:
        value = checkpoint.metrics.get(self.monitor)
        return value if value is not None and math.isfinite(value) else None

    def _better(self, value: float, other: float | None) -> bool:
        return other is None or (value < other if self.mode == "min" else value > other)

    def _marked(self, checkpoints: Checkpoints) -> Checkpoints:
        best: tuple[float, Checkpoint] | None = None
        for one in checkpoints:
            value = self._value(one)
            if value is not None and (best is None or self._better(value, best[0])):
                best = (value, one)
        return [evolve(one, is_best=best is not None and one is best[1]) for one in checkpoints]

    def _first_valid(self, checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
        for one in checkpoints:
            try:
                verify(one.path)
            except CheckpointError as error:
                self._warn(error)
            else:
                return one
        return None

    def _warn(self, error: CheckpointError) -> None:
        if error.path not in self._warned:
            self._warned.add(error.path)
            _LOG.warning("passing over a damaged checkpoint: %s", error)

    # --- on the disk ------------------------------------------------------------------------------------------------

    def _folders(self) -> Paths:
        named = [(path, _NAME.fullmatch(path.name)) for path in self.directory.iterdir() if not unfinished(path.name)]
        found = [(int(match[1]), int(match[2] or 1), path) for path, match in named if match and path.is_dir()]
        return [path for _, _, path in sorted(found)]

    def _listed(self, path: Path) -> Checkpoint | None:
        try:
            return _checkpoint(path, read_manifest(path))
        except CheckpointError as error:
            self._warn(error)
            return None

    def _free_path(self, step: int) -> Path:
        name = f"step-{step:08d}"
        number = 1 + max((_generation(path) for path in self._folders() if _step(path) == step), default=0)
        return self.directory / (name if number == 1 else f"{name}-{number}")

    def _prune(self) -> None:
        there = self.list()
        keep = {one.path for one in (*there[-self.keep_last :], *self.ranked()[: self.keep_best])}
        for one in there:
            if one.path not in keep:
                try:
                    remove_folder(one.path)
                except OSError as error:
                    raise storage_error(one.path, error, "remove") from error

    def _write_history(self) -> None:
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
            for one in self._history.values()
        ]
        path = self.directory / _HISTORY
        try:
            write_atomic(path, json.dumps(records, indent=1, allow_nan=False).encode())
        except OSError as error:
            raise storage_error(path, error, "write") from error

    def _read_history(self) -> dict[str, Checkpoint]:
        """Return what history.json and the checkpoints tell; a history that cannot be read is done without."""
        history: dict[str, Checkpoint] = {}
        path = self.directory / _HISTORY
        with contextlib.suppress(FileNotFoundError):
            try:
                for one in json.loads(path.read_bytes()):
                    metrics = {str(name): float(value) for name, value in one.pop("metrics").items()}
                    name = _NAME.fullmatch(one.pop("name"))
                    if name:
                        history[name[0]] = Checkpoint(self.directory / name[0], metrics=metrics, is_best=False, **one)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                _LOG.warning("%s: the history of checkpoints is damaged and begins anew", path)
                history = {}
        return history | {one.path.name: one for one in self.list() if one.path.name not in history}


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _generation(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[2] or 1) if match else 0


def _checkpoint(path: Path, manifest: Manifest) -> Checkpoint:
    info = manifest.info
    sizes = {name: length / _MEGABYTE for name, (length, _) in manifest.files.items()}
    try:
        return Checkpoint(
            path,
            step=int(info["step"]),
            epoch=int(info["epoch"]),
            metrics={str(name): float(value) for name, value in info["metrics"].items()},
            is_best=False,
            timestamp=str(info["timestamp"]),
            model_size_mb=sizes["model.safetensors"],
            state_size_mb=sum(size for name, size in sizes.items() if name != "model.safetensors"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(path, "this checkpoint was not saved by a manager: its manifest has no step") from error
