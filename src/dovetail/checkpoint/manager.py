"""Which checkpoints there are, which is the best, and which to keep."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, final

from attrs import evolve, field, frozen

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.history import history_frame, in_saving_order, read_history, write_history
from dovetail.checkpoint.listing import Checkpoint, Retention, checkpoint_of, folders, free_path, list_checkpoints
from dovetail.checkpoint.manifest import read_manifest
from dovetail.checkpoint.verify import verify
from dovetail.storage.atomic import make_folder, remove_leftovers, remove_folder
from dovetail.storage.errors import storage_error

if TYPE_CHECKING:
    import pandas as pd

    from dovetail.checkpoint.format import Encoded
    from dovetail.checkpoint.shares import ShareWriter

_LOG: Final = logging.getLogger(__name__)


@frozen
class ResumePoint:
    """Where a run goes on from."""

    checkpoint: Checkpoint
    #: What it holds.
    state: Mapping[str, Any] = field(repr=False)
    #: What was wrong with those that are newer.
    damaged: list[CheckpointError]


# The manager has a method named `list`, which inside it would stand in the way of the type.
Checkpoints = list[Checkpoint]


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
    #: Held while checkpoints are saved, listed or removed: who looks while another thread saves, waits for it.
    lock: threading.RLock = field(factory=threading.RLock, init=False, repr=False, eq=False)

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
            remove_leftovers(self.directory)
        except OSError as error:
            raise storage_error(self.directory, error, "create") from error
        self._history.update(read_history(self.directory))
        self._history.update({one.path.name: one for one in self.list() if one.path.name not in self._history})

    def save(
        self,
        step: int,
        epoch: int,
        metrics: Mapping[str, float],
        state: Mapping[str, Any] | Encoded,
        share_writer: ShareWriter | None = None,
    ) -> Checkpoint:
        """Save ``state`` and then remove the checkpoints that need not be kept any longer.

        A metric that is NaN or infinite never makes a checkpoint the best, and neither does one that is missing.

        Args:
            step: optimizer updates made so far.
            epoch: the epoch, from 1.
            metrics: any scalars; ``monitor`` is looked up among them.
            state: a tree of what parts return from ``state_dict``; what is under ``model`` gets a file of its own.
            share_writer: writes what several processes have shares of.

        Raises:
            TypeError: the state holds what cannot be kept; the message names the path to it.
            StorageError: it cannot be written; the checkpoints that were there still are.
        """
        from dovetail.checkpoint.format import write_checkpoint

        scalars = {str(name): float(value) for name, value in metrics.items()}
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        info = {"step": step, "epoch": epoch, "metrics": scalars, "timestamp": now}
        with self.lock:
            path, retention = free_path(self.directory, step, self._history), self.retention
            saved = checkpoint_of(path, write_checkpoint(path, state, info, share_writer))
            value = retention.value(saved)
            is_best = value is not None and all(
                retention.better(value, retention.value(one)) for one in self._history.values()
            )
            self._history[path.name] = saved
            self.prune()
            write_history(self.directory, self._history.values())
            with contextlib.suppress(OSError):  # of a run that was killed just before this one went on, too young then
                remove_leftovers(self.directory)
        return evolve(saved, is_best=is_best)

    def prune(self) -> Checkpoints:
        """Remove the checkpoints that need not be kept, and return them.

        Raises:
            StorageError: one cannot be removed.
        """
        with self.lock:
            superfluous = self.retention.superfluous(self.list())
            for one in superfluous:
                try:
                    remove_folder(one.path)
                except OSError as error:
                    raise storage_error(one.path, error, "remove") from error
        return superfluous

    def list(self) -> Checkpoints:
        """Return the checkpoints on the disk, oldest first, those whose manifest or sizes are wrong left out and named.

        Their contents are not read; :func:`~dovetail.checkpoint.verify.verify` does that.
        """
        with self.lock:
            found = list_checkpoints(self.directory, self._warn)
            return self.retention.marked(in_saving_order(found, self._history))

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, every byte verified; None if there is none.

        One that is damaged is passed over with a warning in the log that names the file at fault.
        """
        return self._first_valid(reversed(self.list()))

    def resume(self, read: Callable[[Path], Mapping[str, Any]] | None = None) -> ResumePoint | None:
        """Return the newest checkpoint that is whole, with its state, for a run that goes on from it; None without any.

        What is newer is damaged, and is set aside as ``damaged-…``, so that it is neither kept as the newest nor
        counted as the best: the run makes it again.

        Args:
            read: reads a checkpoint, every byte of it verified; all of its state unless given.

        Raises:
            CheckpointError: there are checkpoints, and not one of them is whole. They are left as they are.
        """
        from dovetail.checkpoint.format import read_checkpoint

        read = read or read_checkpoint
        damaged: dict[Path, CheckpointError] = {}
        for path in reversed(folders(self.directory)):
            try:
                found = checkpoint_of(path, read_manifest(path))
                point = ResumePoint(found, read(path), [*damaged.values()])
            except CheckpointError as error:
                damaged[path] = error
                continue
            for one in damaged:
                self._set_aside(one)
            # What was saved later is yet to come.
            names = list(self._history)
            for name in names[names.index(path.name) + 1 :]:
                del self._history[name]
            return point
        if damaged:
            newest = next(iter(damaged.values()))
            raise CheckpointError(self.directory, f"none of its {len(damaged)} checkpoints is whole; {newest}")
        return None

    def best(self) -> Checkpoint | None:
        """Return the best checkpoint on the disk, None if none has the monitored metric; of equals, the oldest.

        Its contents are verified when it is read. Where they turn out damaged, :meth:`ranked` gives the next.
        """
        return next(iter(self.ranked()), None)

    def ranked(self) -> Checkpoints:
        """Return the checkpoints on the disk that have the monitored metric, the best first."""
        return self.retention.ranked(self.list())

    def history(self) -> Checkpoints:
        """Return every checkpoint ever saved here, removed ones too, in the order they were saved."""
        with self.lock:
            there = {path.name for path in folders(self.directory)}
            return self.retention.marked([evolve(one, kept=one.path.name in there) for one in self._history.values()])

    def saved_at(self, step: int | None) -> Checkpoint | None:
        """Return the last checkpoint that was saved at a step, though it may have been removed; None without one."""
        return next((one for one in reversed(self.history()) if one.step == step), None)

    def history_frame(self) -> pd.DataFrame:
        """Return :meth:`history` as a DataFrame, one row a checkpoint, one column a metric.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return history_frame(self.history())

    @property
    def retention(self) -> Retention:
        """Which checkpoints are good, and which are kept."""
        return Retention(self.keep_best, self.keep_last, self.monitor, self.mode)

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

    def _set_aside(self, path: Path) -> None:
        self._history.pop(path.name, None)
        aside = path.with_name(f"damaged-{path.name}")
        with contextlib.suppress(OSError):  # a disk that fails at this as well is no reason not to go on
            remove_folder(aside)
        with contextlib.suppress(OSError):
            path.rename(aside)
