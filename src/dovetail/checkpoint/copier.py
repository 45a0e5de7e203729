"""A second copy of checkpoints in another store, made while training goes on."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from dovetail.checkpoint.manifest import FILES, MANIFEST

if TYPE_CHECKING:
    from dovetail.kernel.kinds import Storage

_LOG: Final = logging.getLogger(__name__)
#: Seconds between one try to copy a checkpoint and the next.
WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


@frozen
class NotCopied:
    """A checkpoint that has no second copy, and why."""

    name: str
    reason: str


class Copier:
    """Copies checkpoints to a store in a thread, one after another, each with its manifest last.

    So a copy too is whole or no checkpoint. A try that fails is made again after a while, longer each time. What has
    been pruned before its turn came is left out: there are newer ones. The thread never keeps the process alive.

    Args:
        storage: where to; it is used by one thread at a time.
        prefix: what the keys begin with, before ``/<checkpoint>/<file>``.
        waits: seconds between the tries.
    """

    def __init__(self, storage: Storage, prefix: str, waits: Sequence[float] = WAITS) -> None:
        self._storage, self._prefix, self._waits = storage, prefix, tuple(waits)
        self._queue: queue.Queue[Path | None] = queue.Queue()
        self._failed: queue.SimpleQueue[NotCopied] = queue.SimpleQueue()
        #: Names of what is queued or being copied.
        self._open: dict[str, None] = {}
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, checkpoint: Path) -> None:
        """Have a checkpoint copied; returns at once."""
        with self._changed:
            self._open[checkpoint.name] = None
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dovetail-copy", daemon=True)
            self._thread.start()
        self._queue.put(checkpoint)

    def failed(self) -> list[NotCopied]:
        """Return what could not be copied since the last call, after all tries."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._failed.get_nowait())
        return found

    def close(self, patience: float) -> list[NotCopied]:
        """Wait for what is queued, ``patience`` seconds at most, and return what has not been copied by then."""
        until = time.monotonic() + patience
        with self._changed:
            while self._open and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            missing = [NotCopied(name, f"not done {patience:.3g} s after the end") for name in self._open]
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
                self._open.pop(checkpoint.name, None)
                self._changed.notify_all()

    def _copy(self, checkpoint: Path) -> None:
        for wait in (*self._waits, None):
            put: list[str] = []
            try:
                for name in (*FILES, MANIFEST):
                    put.append(f"{self._prefix}/{checkpoint.name}/{name}")
                    self._storage.put(put[-1], checkpoint / name)
            except Exception as error:  # noqa: BLE001 (a store is anybody's code, and its failure costs only the copy)
                if not checkpoint.is_dir():
                    self._take_back(put)
                    return
                _LOG.info("copying %s failed: %s", checkpoint.name, error)
                if wait is None:
                    self._failed.put(NotCopied(checkpoint.name, f"{error}"))
                elif self._closed.wait(wait):
                    return
            else:
                return

    def _take_back(self, keys: list[str]) -> None:
        """Remove the beginning of a copy whose original has been pruned."""
        for key in keys:
            with contextlib.suppress(Exception):
                self._storage.delete(key)
