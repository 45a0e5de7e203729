"""A second copy of checkpoints in another store, made while training goes on."""

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

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.listing import Checkpoint, Retention, checkpoint_of, in_order
from dovetail.checkpoint.manifest import LARGEST, MANIFEST, parse_manifest, read_manifest

if TYPE_CHECKING:
    from dovetail.spec.protocols import Storage

_LOG: Final = logging.getLogger(__name__)
#: Seconds between one try to copy a checkpoint and the next.
WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
#: Seconds between one question how long to wait and the next.
_LOOK: Final = 0.5
#: Seconds that one who is hurried waits: a machine that is taken away gives half a minute.
HURRIED: Final = 10.0


@frozen
class NotCopied:
    """A checkpoint that has no second copy, and why."""

    name: str
    reason: str


class Copier:
    """Copies checkpoints to a store in a thread, one after another, each with its manifest last.

    So a copy too is whole or no checkpoint. A try that fails is made again after a while, longer each time. What has
    been pruned before its turn came is left out: there are newer ones. The thread never keeps the process alive.

    Whenever a copy is complete, older ones that need not be kept are removed, by the rules of the first place but going
    by what copies there are: whatever happens to the first place, it takes none away here.

    Args:
        storage: where to; it is used by one thread at a time.
        prefix: what the keys begin with, before ``/<checkpoint>/<file>``. What is there is this copier's alone.
        retention: which copies are kept.
        waits: seconds between the tries.
    """

    def __init__(self, storage: Storage, prefix: str, retention: Retention, waits: Sequence[float] = WAITS) -> None:
        self._storage, self._prefix, self._retention, self._waits = storage, prefix, retention, tuple(waits)
        self._queue: queue.Queue[Path | None] = queue.Queue()
        self._failed: queue.SimpleQueue[NotCopied] = queue.SimpleQueue()
        #: What is queued or being copied, by name: what the last try failed with, empty where none has.
        self._open: dict[str, str] = {}
        #: What the manifests of copies tell, by name.
        self._known: dict[str, Checkpoint] = {}
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, checkpoint: Path) -> None:
        """Have a checkpoint copied, unless it is there already; returns at once."""
        with self._changed:
            self._open[checkpoint.name] = ""
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

    def close(self, patience: float, hurried: Callable[[], bool] = bool) -> list[NotCopied]:
        """Wait for what is queued, and return what has not been copied by then.

        Args:
            patience: seconds to wait at most.
            hurried: says whether to wait no longer than ten; asked again and again.
        """
        began = time.monotonic()
        with self._changed:
            while self._open and (left := began + patience - time.monotonic()) > 0:
                self._changed.wait(min(left, _LOOK))
                if hurried():
                    patience = min(patience, HURRIED)
            late = f"not done {patience:.3g} s after the end"
            missing = [
                NotCopied(name, f"{late}; last it failed with {error}" if error else late)
                for name, error in self._open.items()
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
                self._open.pop(checkpoint.name, None)
                self._changed.notify_all()

    def _copy(self, checkpoint: Path) -> None:
        for wait in (*self._waits, None):
            put: list[str] = []
            try:
                if self._is_there(checkpoint):
                    return
                for name in (*read_manifest(checkpoint).files, MANIFEST):
                    put.append(f"{self._prefix}/{checkpoint.name}/{name}")
                    self._storage.put(put[-1], checkpoint / name)
            except Exception as error:  # noqa: BLE001 (a store is anybody's code, and its failure costs only the copy)
                if not checkpoint.is_dir():
                    self._take_back(put)
                    return
                _LOG.info("copying %s failed: %s", checkpoint.name, error)
                with self._changed:
                    self._open[checkpoint.name] = f"{type(error).__name__}: {error}"
                if wait is None:
                    self._failed.put(NotCopied(checkpoint.name, f"{error}"))
                elif self._closed.wait(wait):
                    return
            else:
                self._prune(checkpoint.name)
                return

    def _is_there(self, checkpoint: Path) -> bool:
        """Say whether there is a copy of this very checkpoint: another one of its name may have been copied before."""
        key = self._manifest(checkpoint.name)
        if not self._storage.exists(key):
            return False
        with self._storage.open(key) as file:
            return file.read(LARGEST) == (checkpoint / MANIFEST).read_bytes()

    def _take_back(self, keys: list[str]) -> None:
        """Remove the beginning of a copy whose original has been pruned."""
        for key in keys:
            with contextlib.suppress(Exception):
                self._storage.delete(key)

    def _prune(self, newest: str) -> None:
        """Remove copies that need not be kept, and what a killed process began, now that ``newest`` is complete."""
        try:
            files: dict[str, list[str]] = {}
            for key in self._storage.list(f"{self._prefix}/"):
                files.setdefault(key.removeprefix(f"{self._prefix}/").partition("/")[0], []).append(key)
            names = in_order(files)
            begun = [name for name in names if self._manifest(name) not in files[name]]
            copies = [one for name in names if name not in begun and (one := self._copy_of(name)) is not None]
            doomed = {*begun, *(one.path.name for one in self._retention.superfluous(copies))}
            for name in names[: names.index(newest)]:
                if name in doomed:
                    self._remove(files[name])
        except Exception as error:  # noqa: BLE001 (as above: it costs only the room that old copies take)
            _LOG.warning("old copies of checkpoints in %s were not removed: %s", self._prefix, error)

    def _copy_of(self, name: str) -> Checkpoint | None:
        """Return what the manifest of a copy tells; None for one that is damaged, which is then left alone."""
        if name not in self._known:
            key = self._manifest(name)
            try:
                with self._storage.open(key) as file:
                    manifest = parse_manifest(Path(key), file.read(LARGEST))
                self._known[name] = checkpoint_of(Path(name), manifest)
            except CheckpointError as error:
                _LOG.warning("passing over a damaged copy of a checkpoint: %s", error)
                return None
        return self._known[name]

    def _manifest(self, name: str) -> str:
        return f"{self._prefix}/{name}/{MANIFEST}"

    def _remove(self, keys: Sequence[str]) -> None:
        """Remove a copy, its manifest first, so that it is never a checkpoint that is half there."""
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):
            self._storage.delete(key)
