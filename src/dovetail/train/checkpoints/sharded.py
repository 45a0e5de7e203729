"""Checkpoints that several processes write and read together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from dovetail.checkpoint.format import Encoded, read_checkpoint
from dovetail.checkpoint.manifest import CheckpointError, read_manifest
from dovetail.checkpoint.sharded import ShardedSpec, ShardedTensors, is_sharded, write_shards
from dovetail.checkpoint.verify import verify
from dovetail.storage.errors import StorageError

if TYPE_CHECKING:
    from dovetail.checkpoint.layout import Piece
    from dovetail.checkpoint.listing import Checkpoint
    from dovetail.checkpoint.saver import Write
    from dovetail.distributed.group import Group
    from dovetail.train.context import Run
    from dovetail.train.ema import WeightAverage

_logger: Final = logging.getLogger("dovetail.train")
_Read = Callable[..., Any]


class ShardWriter:
    """Writes the shards of all processes into a checkpoint that rank 0 commits."""

    def __init__(self, group: Group) -> None:
        """Communicate through ``group``, which nothing else uses meanwhile."""
        self._group = group
        self._begun = False

    def save(self, save: Write, encoded: Encoded) -> Checkpoint | None:
        """Save a checkpoint. A collective: either all processes succeed or all raise.

        Args:
            save: what rank 0 calls to save it, which in turn calls this object.
            encoded: the state of this process.

        Returns:
            The checkpoint, on rank 0.

        Raises:
            StorageError: it cannot be written.
        """
        saved, error = None, None
        self._begun = False
        if self._group.leads:
            try:
                saved = save(encoded)
            except Exception as raised:  # noqa: BLE001 (raised again, once the others know)
                error = raised
            if not self._begun:
                self._group.broadcast(None)
        else:
            folder = self._group.broadcast(None)
            if folder is not None:
                self._write(folder, encoded.sharded)
        problem = self._group.broadcast(None if error is None else f"{error}")
        if error is not None:
            raise error
        if problem is not None:
            raise StorageError(".", problem)
        return saved

    def __call__(self, directory: Path, shared: ShardedTensors) -> Mapping[str, list[Piece]]:
        """Write the shards, on rank 0; the other ranks write theirs in :meth:`save`."""
        self._begun = True
        self._group.broadcast(directory)
        written, problems = self._write(directory, shared)
        if problems:
            raise StorageError(directory.parent, f"cannot write the shards of a checkpoint: {problems[0]}")
        missing = [name for name in written if not (directory / name).is_file()]
        if missing:
            raise StorageError(
                directory.parent,
                f"{missing[0]}, written by another process, is missing here: all processes must see this folder on one "
                "file system",
            )
        return written

    def _write(self, directory: Path, shared: ShardedTensors) -> tuple[dict[str, list[Piece]], list[str]]:
        """Write this process's shards, and return the pieces of all files, and what went wrong in any process."""
        pieces, problem = {}, None
        try:
            pieces = write_shards(directory, shared, self._group.rank, self._group.channel)
        except Exception as error:  # noqa: BLE001 (the other processes wait to hear of it)
            problem = f"process {self._group.rank}: {' '.join(str(error).split())}"
        found = self._group.all_gather((pieces, problem))
        merged = {name: piece for some, _ in found for name, piece in some.items()}
        return merged, [text for _, text in found if text]


class Verifier:
    """Verifies every byte of checkpoints that all processes see, each process some of the files."""

    def __init__(self, group: Group) -> None:
        """Verify with ``group``."""
        self._group = group

    def check(self, path: Path) -> CheckpointError | None:
        """Return what is wrong with a checkpoint, the same on all ranks. A collective."""
        problem = None
        try:
            names = sorted(read_manifest(path).files)[self._group.rank :: self._group.size]
            if names:
                verify(path, names)
        except CheckpointError as error:
            problem = error
        return next((error for error in self._group.all_gather(problem) if error is not None), None)

    def __call__(self, path: Path) -> dict[str, Any]:
        """Verify a checkpoint on rank 0 while the other ranks are in :meth:`help`.

        Raises:
            CheckpointError: it is damaged.
        """
        self._group.broadcast(path)
        problem = self.check(path)
        if problem is not None:
            raise problem
        return {}

    def help(self) -> None:
        """Verify with rank 0 until it calls :meth:`end`."""
        while (path := self._group.broadcast(None)) is not None:
            self.check(path)

    def end(self) -> None:
        """Release the other ranks, on rank 0."""
        self._group.broadcast(None)


def read_first(run: Run, candidates: Iterable[Path], read: _Read = read_checkpoint) -> tuple[Path, Any] | None:
    """Return the first intact checkpoint, and what ``read`` returns for it, in every process.

    Args:
        run: the run.
        candidates: rank 0's; unless the model is sharded, the other ranks need not see these folders.
        read: :func:`~dovetail.checkpoint.format.read_checkpoint` or ``read_model``.
    """
    group = run.group
    for path in group.broadcast([*candidates] if group.leads else None):
        state = _read_intact(run, path, read)
        if state is not None:
            return path, state
    return None


def _read_intact(run: Run, path: Path, read: _Read) -> Any:
    """Return what ``read`` returns for a checkpoint, in every process; None, with a warning, if it is damaged."""
    group = run.group
    state, problem = None, None
    if group.mesh is not None:
        problem = Verifier(group).check(path)
    elif group.leads:
        try:
            state = read(path)
        except CheckpointError as error:
            problem = error
    problem = group.broadcast(problem)
    if problem is not None:
        _logger.warning("skipping a damaged checkpoint: %s", problem)
        return None
    return group.broadcast(state) if group.mesh is None else read_own_shards(run, path, read)


def read_own_shards(run: Run, path: Path, read: _Read = read_checkpoint) -> Any:
    """Return what ``read`` returns for a verified checkpoint, each process its own shards.

    Raises:
        CheckpointError: this process cannot read it.
    """

    def allocate(spec: ShardedSpec) -> torch.Tensor:
        from torch.distributed.tensor import Replicate, Shard, empty

        placement = Replicate() if spec.dim is None else Shard(spec.dim)
        return empty(spec.shape, dtype=spec.dtype, device_mesh=run.group.mesh, placements=[placement])

    return read(path, allocate)


def sharded_like(run: Run, part: Any, state: Any) -> Any:
    """Return the state of a part with full tensors sharded like the part's own; unchanged if the run has no shards."""
    if run.group.mesh is None:
        return state
    if isinstance(part, torch.optim.Optimizer):
        return _shard_optimizer(part, state)
    if isinstance(part, nn.Module):
        return _shard_named(part.state_dict(), state)
    if run.parts.ema is not None and part is run.parts.ema:
        return _shard_average(run.parts.ema, state)
    return state


def _shard_named(own: Mapping[str, Any], state: Any) -> Any:
    for name, value in state.items():
        state[name] = _shard(value, own.get(name))
    return state


def _shard_average(average: WeightAverage, state: Any) -> Any:
    return {**state, "weights": _shard_named(average.state_dict()["weights"], state["weights"])}


def _shard_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> Any:
    """Shard values of a parameter's shape like the parameter."""
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        for parameter, number in zip(group["params"], saved["params"], strict=True):
            values = state["state"].get(number, {})
            for name, value in values.items():
                values[name] = _shard(value, parameter)
    return state


def _shard(value: Any, own: Any) -> Any:
    tensors = isinstance(value, torch.Tensor) and isinstance(own, torch.Tensor)
    if tensors and is_sharded(own) and not is_sharded(value) and value.shape == own.shape:
        from dovetail.distributed.sharding import shard_like

        return shard_like(value, own)
    return value
