"""Saving while training goes on: the state is copied into memory that is used again, and written by another thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import torch
from attrs import define, evolve, field, frozen

from dovetail.checkpoint.format import Encoded, encode
from dovetail.checkpoint.listing import Checkpoint
from dovetail.checkpoint.manager import CheckpointManager
from dovetail.checkpoint.manifest import SHARE_FOLDERS
from dovetail.checkpoint.shares import local, with_local

_LOG: Final = logging.getLogger(__name__)
_ALIGNMENT: Final = 64  # bytes: a line of the cache
#: Writes a checkpoint; None in a process that only helps another to write it.
Write = Callable[[Encoded], Checkpoint | None]


@frozen
class Saved:
    """A checkpoint that is on the disk."""

    checkpoint: Checkpoint
    #: How long writing took.
    seconds: float


@define(eq=False)
class HostBuffers:
    """Main memory that the tensors of one checkpoint after another are copied into; page-locked for those of a GPU."""

    _memory: dict[str, torch.Tensor] = field(factory=dict, init=False)

    def copy(self, encoded: Encoded) -> Encoded:
        """Return ``encoded`` with its tensors copied into this memory; the copy made before is overwritten."""
        tensors = {file: self._copied(file, some) for file, some in encoded.tensors.items()}
        shared = {file: self._copied_shares(SHARE_FOLDERS[file], some) for file, some in encoded.shared.items()}
        copied = (*encoded.tensors.values(), *encoded.shared.values())
        for device in {one.device for some in copied for one in some.values() if one.is_cuda}:
            torch.cuda.synchronize(device)
        return evolve(encoded, tensors=tensors, shared=shared)

    def _copied_shares(self, folder: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        own = self._copied(folder, {key: local(tensor) for key, tensor in tensors.items()})
        return {key: with_local(tensor, own[key]) for key, tensor in tensors.items()}

    def _copied(self, file: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        places, needed = {}, 0
        for key, tensor in tensors.items():
            places[key] = needed
            needed += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        memory = self._room(file, needed, pinned=any(tensor.is_cuda for tensor in tensors.values()))
        windows = {
            key: memory[place : place + tensors[key].nbytes].view(tensors[key].dtype).view(tensors[key].shape)
            for key, place in places.items()
        }
        for key, window in windows.items():
            window.copy_(tensors[key], non_blocking=tensors[key].is_cuda)
        return windows

    def _room(self, file: str, needed: int, *, pinned: bool) -> torch.Tensor:
        memory = self._memory.get(file)
        if memory is None or memory.numel() < needed or (pinned and not memory.is_pinned()):
            self._memory.pop(file, None)  # given back before more is taken
            memory = self._memory[file] = torch.empty(needed, dtype=torch.uint8, pin_memory=pinned)
        return memory


class Saver:
    """Saves the checkpoints of a manager, one after another: in the background, or before ``save`` returns.

    Either way the bytes on the disk are the same. In the background a checkpoint is copied in main memory first, so
    that it is of one step, whatever is trained meanwhile. A second save waits for the first: there is one copy at most.
    Used as a context manager, it ends when everything is on the disk.
    """

    def __init__(self, manager: CheckpointManager, *, background: bool = False) -> None:
        self._lock = manager.lock
        self._buffers = HostBuffers()
        self._pool = ThreadPoolExecutor(1, "dovetail-checkpoint") if background else None
        self._writing: Future[Saved | None] | None = None
        self._saved: list[Saved] = []

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written, or it is not yet told that it is written or failed."""
        return self._writing is not None

    @property
    def done(self) -> bool:
        """Whether :meth:`wait` need not wait."""
        return self._writing is None or self._writing.done()

    def save(self, state: Mapping[str, Any], write: Write) -> None:
        """Save a checkpoint; :meth:`saved` tells when it is on the disk.

        Args:
            state: a tree as :func:`~dovetail.checkpoint.format.encode` takes it.
            write: writes it, as ``partial(manager.save, step, epoch, metrics)`` does; in the background, in a thread
                of its own.

        Raises:
            TypeError: the state holds what cannot be kept; the message names the path to it.
            StorageError: it cannot be written; in the background, the one before could not be.
        """
        if self._pool is None:
            self._note(self._write(encode(state), write))
            return
        self.wait()
        begun = threading.Event()
        self._writing = self._pool.submit(self._write, self._buffers.copy(encode(state)), write, begun)
        # From here on, who lists the manager's checkpoints finds this one too.
        begun.wait()

    def _write(self, encoded: Encoded, write: Write, begun: threading.Event | None = None) -> Saved | None:
        began = time.monotonic()
        with self._lock:
            if begun is not None:
                begun.set()
            checkpoint = write(encoded)
        return None if checkpoint is None else Saved(checkpoint, time.monotonic() - began)

    def _note(self, saved: Saved | None) -> None:
        if saved is not None:
            self._saved.append(saved)

    def saved(self) -> list[Saved]:
        """Return what has been saved since the last call, without waiting.

        Raises:
            StorageError: a checkpoint could not be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()
        saved, self._saved = self._saved, []
        return saved

    def wait(self) -> None:
        """Wait until nothing is being written any more.

        Raises:
            StorageError: the checkpoint could not be written.
        """
        if self._writing is not None:
            # Forgotten first, so that a failure is told once.
            writing, self._writing = self._writing, None
            self._note(writing.result())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            _LOG.error("the last checkpoint was not saved: %s", failure)
        finally:
            if self._pool is not None:
                self._pool.shutdown()
