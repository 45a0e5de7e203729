"""The store of a run's checkpoints: saves them, lists them, and keeps the best and the newest."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, final

from attrs import evolve, field, frozen

from dovetail.checkpoint.listing import (
    Checkpoint,
    Retention,
    checkpoint_folders,
    history_frame,
    list_checkpoints,
    next_path,
    read_history,
    sort_by_save_order,
    write_history,
)
from dovetail.checkpoint.manifest import CheckpointError, read_manifest
from dovetail.checkpoint.verify import verify
from dovetail.storage.atomic import make_folder, remove_folder, remove_leftovers
from dovetail.storage.errors import storage_error

if TYPE_CHECKING:
    import pandas as pd

    from dovetail.checkpoint.format import Encoded
    from dovetail.checkpoint.sharded import WriteShards

_LOG: Final = logging.getLogger(__name__)


@frozen
class ResumePoint:
    """The checkpoint that a run resumes from."""

    checkpoint: Checkpoint
    #: Its state.
    state: Mapping[str, Any] = field(repr=False)
    #: The errors of newer checkpoints, which are damaged.
    damaged: list[CheckpointError]


# Inside CheckpointStore, `list` is its method.
Checkpoints = list[Checkpoint]


def _absolute(path: Path | str) -> Path:
    return Path(path).expanduser().absolute()


@final
@frozen
class CheckpointStore:
    """Saves checkpoints in a folder, and keeps the best and the newest of them.

    A checkpoint is the folder ``step-00001200``, or ``step-00001200-2`` for the second one of that step, in the format
    of :mod:`dovetail.checkpoint.format`. Old checkpoints are removed only once a new one is on the disk. Leftovers of
    killed saves are removed too.

    Raises:
        ValueError: a number is too small, or the mode is unknown.
        StorageError: the folder cannot be created.
    """

    directory: Path = field(converter=_absolute)
    #: How many of the best to keep, by ``monitor``; at 0, only ``keep_last`` counts.
    keep_best: int = 3
    #: How many of the newest to keep, at least 1, so that a run can be resumed.
    keep_last: int = 5
    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    _history: dict[str, Checkpoint] = field(factory=dict, init=False, repr=False, eq=False)
    _warned: set[Path] = field(factory=set, init=False, repr=False, eq=False)
    #: Held while checkpoints are saved, listed or removed, so that listing waits for a save in another thread.
    lock: threading.RLock = field(factory=threading.RLock, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Create the folder, remove leftovers and read the history."""
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
        for checkpoint in self.list():
            self._history.setdefault(checkpoint.path.name, checkpoint)

    def save(
        self,
        step: int,
        epoch: int,
        metrics: Mapping[str, float],
        state: Mapping[str, Any] | Encoded,
        write_shards: WriteShards | None = None,
    ) -> Checkpoint:
        """Save ``state``, then remove the checkpoints that the retention rules no longer keep.

        A checkpoint whose monitored metric is missing, NaN or infinite is never the best.

        Args:
            step: optimizer updates made so far.
            epoch: the epoch, from 1.
            metrics: any scalars, among them ``monitor``.
            state: a tree of the parts' ``state_dict``s; tensors under ``model`` get a file of their own.
            write_shards: writes the sharded tensors.

        Raises:
            TypeError: the state holds something that a checkpoint cannot hold; the message names its path.
            StorageError: the checkpoint cannot be written; existing checkpoints are intact.
        """
        from dovetail.checkpoint.format import write_checkpoint

        scalars = {str(name): float(value) for name, value in metrics.items()}
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        info = {"step": step, "epoch": epoch, "metrics": scalars, "timestamp": now}
        with self.lock:
            path, retention = next_path(self.directory, step, self._history), self.retention
            saved = Checkpoint.from_manifest(path, write_checkpoint(path, state, info, write_shards))
            value = retention.value(saved)
            is_best = value is not None and all(
                retention.is_better(value, retention.value(earlier)) for earlier in self._history.values()
            )
            self._history[path.name] = saved
            self.prune()
            write_history(self.directory, self._history.values())
            # Leftovers of a run that was killed shortly before this one started were too young to remove then.
            with contextlib.suppress(OSError):
                remove_leftovers(self.directory)
        return evolve(saved, is_best=is_best)

    def prune(self) -> Checkpoints:
        """Remove the checkpoints that the retention rules no longer keep, and return them.

        Raises:
            StorageError: a checkpoint cannot be removed.
        """
        with self.lock:
            expired = self.retention.expired(self.list())
            for checkpoint in expired:
                try:
                    remove_folder(checkpoint.path)
                except OSError as error:
                    raise storage_error(checkpoint.path, error, "remove") from error
        return expired

    def list(self) -> Checkpoints:
        """Return the checkpoints on the disk, oldest first, without reading their contents.

        A checkpoint with a wrong manifest or wrong sizes is left out, with a warning in the log.
        :func:`~dovetail.checkpoint.verify.verify` reads the contents.
        """
        with self.lock:
            found = list_checkpoints(self.directory, self._warn)
            return self.retention.mark_best(sort_by_save_order(found, self._history))

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is intact, after verifying every byte; None if there is none.

        A damaged checkpoint is skipped, with a warning in the log that names the faulty file.
        """
        for checkpoint in reversed(self.list()):
            try:
                verify(checkpoint.path)
            except CheckpointError as error:
                self._warn(error)
            else:
                return checkpoint
        return None

    def resume(self, read: Callable[[Path], Mapping[str, Any]] | None = None) -> ResumePoint | None:
        """Return the newest checkpoint that is intact, with its state, to resume a run from; None if there is none.

        Newer checkpoints are damaged. They are renamed to ``damaged-…``, so that they neither count as the newest nor
        as the best; the resumed run saves these steps again.

        Args:
            read: reads and verifies a checkpoint; by default
                :func:`~dovetail.checkpoint.format.read_checkpoint`.

        Raises:
            CheckpointError: there are checkpoints, but all are damaged. None is renamed.
        """
        from dovetail.checkpoint.format import read_checkpoint

        read = read or read_checkpoint
        damaged: dict[Path, CheckpointError] = {}
        for path in reversed(checkpoint_folders(self.directory)):
            try:
                checkpoint = Checkpoint.from_manifest(path, read_manifest(path))
                point = ResumePoint(checkpoint, read(path), [*damaged.values()])
            except CheckpointError as error:
                damaged[path] = error
                continue
            for damaged_path in damaged:
                self._set_aside(damaged_path)
            # The resumed run has not saved later checkpoints yet.
            names = list(self._history)
            for name in names[names.index(path.name) + 1 :]:
                del self._history[name]
            return point
        if damaged:
            newest = next(iter(damaged.values()))
            raise CheckpointError(self.directory, f"all {len(damaged)} of its checkpoints are damaged; {newest}")
        return None

    def best(self) -> Checkpoint | None:
        """Return the best checkpoint on the disk, of equal ones the oldest; None if none has the monitored metric.

        Reading it verifies its contents. If they are damaged, :meth:`ranked` has the next best.
        """
        return next(iter(self.ranked()), None)

    def ranked(self) -> Checkpoints:
        """Return the checkpoints on the disk that have the monitored metric, best first."""
        return self.retention.ranked(self.list())

    def history(self) -> Checkpoints:
        """Return every checkpoint ever saved here, even if removed since, in the order in which they were saved."""
        with self.lock:
            names = {path.name for path in checkpoint_folders(self.directory)}
            return self.retention.mark_best(
                [evolve(checkpoint, kept=name in names) for name, checkpoint in self._history.items()]
            )

    def saved_at(self, step: int | None) -> Checkpoint | None:
        """Return the last checkpoint saved at a step, even if removed since; None if there was none."""
        return next((checkpoint for checkpoint in reversed(self.history()) if checkpoint.step == step), None)

    def history_frame(self) -> pd.DataFrame:
        """Return :meth:`history` as a DataFrame with one row per checkpoint, and one column per metric.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return history_frame(self.history())

    @property
    def retention(self) -> Retention:
        """The rules that rank checkpoints and say which ones to keep."""
        return Retention(self.keep_best, self.keep_last, self.monitor, self.mode)

    def _warn(self, error: CheckpointError) -> None:
        if error.path not in self._warned:
            self._warned.add(error.path)
            _LOG.warning("skipping a damaged checkpoint: %s", error)

    def _set_aside(self, path: Path) -> None:
        self._history.pop(path.name, None)
        aside = path.with_name(f"damaged-{path.name}")
        # The run can resume even if the disk fails at this too.
        with contextlib.suppress(OSError):
            remove_folder(aside)
        with contextlib.suppress(OSError):
            path.rename(aside)
