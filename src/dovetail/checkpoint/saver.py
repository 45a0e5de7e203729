"""Save checkpoints, in the background if wanted, and find weights that no checkpoint may hold."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import torch
from attrs import define, evolve, field, frozen
from torch import nn

from dovetail.checkpoint.format import Encoded, encode
from dovetail.checkpoint.listing import Checkpoint
from dovetail.checkpoint.manifest import SHARD_FOLDERS
from dovetail.checkpoint.sharded import local_shard, with_local_shard
from dovetail.checkpoint.store import CheckpointStore

_LOG: Final = logging.getLogger(__name__)
_ALIGNMENT: Final = 64  # bytes: a cache line
_SHOWN: Final = 5  # names in a message
#: Writes a checkpoint; returns None in a process that only helps another to write it.
Write = Callable[[Encoded], Checkpoint | None]


@frozen
class SavedCheckpoint:
    """A checkpoint that is on the disk."""

    checkpoint: Checkpoint
    #: Time spent writing it.
    seconds: float


@define(eq=False)
class HostBuffers:
    """Main memory that each checkpoint's tensors are copied into; page-locked for tensors on a GPU."""

    _memory: dict[str, torch.Tensor] = field(factory=dict, init=False)

    def copy(self, encoded: Encoded) -> Encoded:
        """Return ``encoded`` with its tensors copied into this memory; this overwrites the previous copy."""
        tensors = {part: self._copy(part, by_key) for part, by_key in encoded.tensors.items()}
        sharded = {part: self._copy_shards(SHARD_FOLDERS[part], by_key) for part, by_key in encoded.sharded.items()}
        sources = (*encoded.tensors.values(), *encoded.sharded.values())
        for device in {tensor.device for by_key in sources for tensor in by_key.values() if tensor.is_cuda}:
            torch.cuda.synchronize(device)
        return evolve(encoded, tensors=tensors, sharded=sharded)

    def _copy_shards(self, folder: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        shards = self._copy(folder, {key: local_shard(tensor) for key, tensor in tensors.items()})
        return {key: with_local_shard(tensor, shards[key]) for key, tensor in tensors.items()}

    def _copy(self, name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        offsets, needed = {}, 0
        for key, tensor in tensors.items():
            offsets[key] = needed
            needed += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        memory = self._allocate(name, needed, pinned=any(tensor.is_cuda for tensor in tensors.values()))
        copies = {
            key: memory[offset : offset + tensors[key].nbytes].view(tensors[key].dtype).view(tensors[key].shape)
            for key, offset in offsets.items()
        }
        for key, copy in copies.items():
            copy.copy_(tensors[key], non_blocking=tensors[key].is_cuda)
        return copies

    def _allocate(self, name: str, needed: int, *, pinned: bool) -> torch.Tensor:
        memory = self._memory.get(name)
        if memory is None or memory.numel() < needed or (pinned and not memory.is_pinned()):
            self._memory.pop(name, None)  # free the old memory before allocating more
            memory = self._memory[name] = torch.empty(needed, dtype=torch.uint8, pin_memory=pinned)
        return memory


class Saver:
    """Saves checkpoints one after another: in the background, or before ``save`` returns.

    The bytes on the disk are the same either way. In the background, the state is first copied in main memory, so that
    the checkpoint is of one step while training continues. A second save waits for the first, so there is at most one
    copy. As a context manager, it waits at the end until everything is on the disk.

    Args:
        store: the checkpoints; its lock is held while a checkpoint is written.
        background: whether to write in another thread.
    """

    def __init__(self, store: CheckpointStore, *, background: bool = False) -> None:
        self._lock = store.lock
        self._buffers = HostBuffers()
        self._pool = ThreadPoolExecutor(1, "dovetail-checkpoint") if background else None
        self._writing: Future[SavedCheckpoint | None] | None = None
        self._saved: list[SavedCheckpoint] = []

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written, or :meth:`wait` has not yet reported it as written or failed."""
        return self._writing is not None

    @property
    def done(self) -> bool:
        """Whether :meth:`wait` would return at once."""
        return self._writing is None or self._writing.done()

    def save(self, state: Mapping[str, Any], write: Write) -> None:
        """Save a checkpoint; :meth:`take_saved` returns it once it is on the disk.

        Args:
            state: a tree as for :func:`~dovetail.checkpoint.format.encode`.
            write: writes the checkpoint, such as ``partial(store.save, step, epoch, metrics)``; in the background, it
                runs in another thread.

        Raises:
            TypeError: the state holds something that a checkpoint cannot hold; the message names its path.
            StorageError: the checkpoint cannot be written; in the background, the previous one could not.
        """
        if self._pool is None:
            self._record(self._write(encode(state), write))
            return
        self.wait()
        locked = threading.Event()
        self._writing = self._pool.submit(self._write, self._buffers.copy(encode(state)), write, locked)
        # Return once the thread holds the lock, so that listing the store from now on waits for this checkpoint.
        locked.wait()

    def _write(self, encoded: Encoded, write: Write, locked: threading.Event | None = None) -> SavedCheckpoint | None:
        start = time.monotonic()
        with self._lock:
            if locked is not None:
                locked.set()
            checkpoint = write(encoded)
        return None if checkpoint is None else SavedCheckpoint(checkpoint, time.monotonic() - start)

    def _record(self, saved: SavedCheckpoint | None) -> None:
        if saved is not None:
            self._saved.append(saved)

    def take_saved(self) -> list[SavedCheckpoint]:
        """Return the checkpoints saved since the last call, without waiting.

        Raises:
            StorageError: a checkpoint could not be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()
        saved, self._saved = self._saved, []
        return saved

    def wait(self) -> None:
        """Wait until no checkpoint is being written.

        Raises:
            StorageError: the checkpoint could not be written.
        """
        if self._writing is not None:
            # Reset first, so that a failure is raised once.
            writing, self._writing = self._writing, None
            self._record(writing.result())

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


# --- weights that no checkpoint may hold ------------------------------------------------------------------------------


def nonfinite_weights(module: nn.Module) -> list[str]:
    """Return the names of trainable parameters with NaN or infinite values, and of other weights with NaN.

    Buffers and frozen parameters may be infinite: attention masks are. Of a sharded weight, only this process's shard
    is checked.

    This synchronises with the device once and reads each weight once, in about a twentieth of the time of writing them.
    """
    named = [*module.named_parameters(), *module.named_buffers()]
    floating = [(name, weight) for name, weight in named if weight.is_floating_point() or weight.is_complex()]
    if not floating:
        return []
    # A finite norm means finite values. An infinite norm may come from squares of large values, so look closer then.
    norms = torch._foreach_norm([local_shard(weight.detach()) for _, weight in floating])  # noqa: SLF001 (torch's own clipping uses it)
    values = torch.stack([norm.double() for norm in norms]).tolist()
    suspects = [pair for pair, norm in zip(floating, values, strict=True) if not math.isfinite(norm)]
    return [name for name, weight in suspects if _is_nonfinite(weight)]


def _is_nonfinite(weight: torch.Tensor) -> bool:
    values = local_shard(weight.detach())
    return bool((~values.isfinite() if weight.requires_grad else values.isnan()).any())


def join_first(values: Iterable[object]) -> str:
    """Return the first five of ``values`` as text, and how many more there are."""
    names = [str(value) for value in values]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
