"""Copy checkpoints to another storage while training continues."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from dovetail.checkpoint.listing import Checkpoint, Retention, sort_by_step
from dovetail.checkpoint.manifest import MANIFEST, MAX_MANIFEST, CheckpointError, parse_manifest, read_manifest

if TYPE_CHECKING:
    from dovetail.spec import Storage

_LOG: Final = logging.getLogger(__name__)
#: Seconds between attempts to copy a checkpoint.
RETRY_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
#: Seconds between checks whether to hurry.
_CHECK_INTERVAL: Final = 0.5
#: Seconds to wait at most when hurried: a preempted machine gives about 30 s.
HURRIED_PATIENCE: Final = 10.0


@frozen
class NotCopied:
    """A checkpoint without a copy, and the reason."""

    name: str
    reason: str


class Copier:
    """Copies checkpoints to a storage in a background thread, one after another, each with its manifest last.

    So a copy is complete, or not a checkpoint. A failed attempt is repeated after increasing delays. A checkpoint that
    was pruned before its turn is skipped, because there are newer ones. The thread never keeps the process alive.

    After each complete copy, older copies are removed by the retention rules, applied to the copies that exist. So
    losing the original checkpoints never removes a copy.

    Args:
        storage: the target; one thread uses it at a time.
        prefix: the first part of the keys, before ``/<checkpoint>/<file>``; no one else may write under it.
        retention: the rules that say which copies to keep.
        retry_delays: seconds between attempts.
    """

    def __init__(
        self, storage: Storage, prefix: str, retention: Retention, retry_delays: Sequence[float] = RETRY_DELAYS
    ) -> None:
        self._storage, self._prefix, self._retention = storage, prefix, retention
        self._retry_delays = tuple(retry_delays)
        self._queue: queue.Queue[Path | None] = queue.Queue()
        self._failed: queue.SimpleQueue[NotCopied] = queue.SimpleQueue()
        #: The error of the last attempt for each checkpoint that is queued or being copied; empty before any.
        self._pending: dict[str, str] = {}
        #: Copies whose manifests have been read, by name.
        self._known: dict[str, Checkpoint] = {}
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, checkpoint: Path) -> None:
        """Queue a checkpoint to copy, unless its copy exists; returns at once."""
        with self._changed:
            self._pending[checkpoint.name] = ""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dovetail-copy", daemon=True)
            self._thread.start()
        self._queue.put(checkpoint)

    def failed(self) -> list[NotCopied]:
        """Return the checkpoints whose last attempt has failed since the last call."""
        failed = []
        with contextlib.suppress(queue.Empty):
            while True:
                failed.append(self._failed.get_nowait())
        return failed

    def close(self, patience: float, hurried: Callable[[], bool] = bool) -> list[NotCopied]:
        """Wait for queued checkpoints, and return those that have no copy by then.

        Args:
            patience: seconds to wait at most.
            hurried: polled; once it returns true, the wait ends after 10 s at most.
        """
        start = time.monotonic()
        with self._changed:
            while self._pending and (remaining := start + patience - time.monotonic()) > 0:
                self._changed.wait(min(remaining, _CHECK_INTERVAL))
                if hurried():
                    patience = min(patience, HURRIED_PATIENCE)
            late = f"not done {patience:.3g} s after the end"
            missing = [
                NotCopied(name, f"{late}; the last attempt failed with {error}" if error else late)
                for name, error in self._pending.items()
            ]
        self._closed.set()
        self._queue.put(None)
        if self._thread is not None and not missing:
            self._thread.join()
        return [*self.failed(), *missing]

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (checkpoint := self._queue.get()) is not None and not self._closed.is_set():
            self._copy(checkpoint)
            with self._changed:
                self._pending.pop(checkpoint.name, None)
                self._changed.notify_all()

    def _copy(self, checkpoint: Path) -> None:
        for delay in (*self._retry_delays, None):
            keys: list[str] = []
            try:
                if self._has_copy(checkpoint):
                    return
                for name in (*read_manifest(checkpoint).files, MANIFEST):
                    keys.append(f"{self._prefix}/{checkpoint.name}/{name}")
                    self._storage.put(keys[-1], checkpoint / name)
            except Exception as error:  # noqa: BLE001 (a third-party storage may raise anything; training continues)
                if not checkpoint.is_dir():
                    self._remove_partial(keys)
                    return
                _LOG.info("copying %s failed: %s", checkpoint.name, error)
                with self._changed:
                    self._pending[checkpoint.name] = f"{type(error).__name__}: {error}"
                if delay is None:
                    self._failed.put(NotCopied(checkpoint.name, f"{error}"))
                elif self._closed.wait(delay):
                    return
            else:
                self._prune(checkpoint.name)
                return

    def _has_copy(self, checkpoint: Path) -> bool:
        """Return whether the copy of this name has this checkpoint's manifest; it may be another checkpoint's."""
        key = self._manifest_key(checkpoint.name)
        if not self._storage.exists(key):
            return False
        with self._storage.open(key) as file:
            return file.read(MAX_MANIFEST) == (checkpoint / MANIFEST).read_bytes()

    def _remove_partial(self, keys: list[str]) -> None:
        """Remove the files of an incomplete copy whose original was pruned."""
        for key in keys:
            with contextlib.suppress(Exception):
                self._storage.delete(key)

    def _prune(self, newest: str) -> None:
        """Remove incomplete copies and copies that are no longer kept, once the copy ``newest`` is complete."""
        try:
            files: dict[str, list[str]] = {}
            for key in self._storage.list(f"{self._prefix}/"):
                files.setdefault(key.removeprefix(f"{self._prefix}/").partition("/")[0], []).append(key)
            names = sort_by_step(files)
            incomplete = [name for name in names if self._manifest_key(name) not in files[name]]
            copies = [copy for name in names if name not in incomplete and (copy := self._read_copy(name)) is not None]
            expired = {*incomplete, *(copy.path.name for copy in self._retention.expired(copies))}
            for name in names[: names.index(newest)]:
                if name in expired:
                    self._remove(files[name])
        except Exception as error:  # noqa: BLE001 (as above; old copies only take space)
            _LOG.warning("old copies of checkpoints in %s were not removed: %s", self._prefix, error)

    def _read_copy(self, name: str) -> Checkpoint | None:
        """Return the copy that a manifest describes; None if the manifest is damaged, and the copy then stays."""
        if name not in self._known:
            key = self._manifest_key(name)
            try:
                with self._storage.open(key) as file:
                    manifest = parse_manifest(Path(key), file.read(MAX_MANIFEST))
                self._known[name] = Checkpoint.from_manifest(Path(name), manifest)
            except CheckpointError as error:
                _LOG.warning("skipping a damaged copy of a checkpoint: %s", error)
                return None
        return self._known[name]

    def _manifest_key(self, name: str) -> str:
        return f"{self._prefix}/{name}/{MANIFEST}"

    def _remove(self, keys: Sequence[str]) -> None:
        """Remove a copy, its manifest first, so that it is never an incomplete checkpoint."""
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):
            self._storage.delete(key)
