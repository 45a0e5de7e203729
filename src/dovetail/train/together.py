"""Checkpoints that several processes write, and read, together."""

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
    from dovetail.train.context import Run
    from dovetail.train.ema import WeightAverage
    from dovetail.train.group import Group

_logger: Final = logging.getLogger("dovetail.train")
_Read = Callable[..., Any]


class ShardWriter:
    """Writes the shares of all processes into a checkpoint that the leader makes."""

    def __init__(self, group: Group) -> None:
        """Write with ``group``, by which nothing else goes at the time."""
        self._group = group
        self._begun = False

    def save(self, save: Write, encoded: Encoded) -> Checkpoint | None:
        """Save a checkpoint; all processes call this together, and either all succeed or all raise.

        Args:
            save: what the leader does to save it, which comes to call this object.
            encoded: the process's own state.

        Returns:
            The checkpoint, in the leader.

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
                self._group.share(None)
        else:
            folder = self._group.share(None)
            if folder is not None:
                self._write(folder, encoded.sharded)
        told = self._group.share(None if error is None else f"{error}")
        if error is not None:
            raise error
        if told is not None:
            raise StorageError(".", told)
        return saved

    def __call__(self, directory: Path, shared: ShardedTensors) -> Mapping[str, list[Piece]]:
        """Write the shares, in the leader; the others do so in :meth:`save`."""
        self._begun = True
        self._group.share(directory)
        written, problems = self._write(directory, shared)
        if problems:
            raise StorageError(directory.parent, f"the shares of a checkpoint cannot be written: {problems[0]}")
        absent = [name for name in written if not (directory / name).is_file()]
        if absent:
            message = f"{absent[0]}, of another process, is not there: all of them must have this folder on one disk"
            raise StorageError(directory.parent, message)
        return written

    def _write(self, directory: Path, shared: ShardedTensors) -> tuple[dict[str, list[Piece]], list[str]]:
        """Write this process's shares, and return the pieces of all files, and what went wrong anywhere."""
        pieces, problem = {}, None
        try:
            pieces = write_shards(directory, shared, self._group.rank, self._group.channel)
        except Exception as error:  # noqa: BLE001 (told to the others, who would wait for this one)
            problem = f"process {self._group.rank}: {' '.join(str(error).split())}"
        found = self._group.gather((pieces, problem))
        return {name: one for some, _ in found for name, one in some.items()}, [one for _, one in found if one]


def read_first(run: Run, candidates: Iterable[Path], read: _Read = read_checkpoint) -> tuple[Path, Any] | None:
    """Return the first checkpoint that is whole, and what ``read`` makes of it, in every process of a run.

    Args:
        run: the run.
        candidates: the leader's; the others may be on machines that have no such folder, unless state is shared out.
        read: :func:`~dovetail.checkpoint.format.read_checkpoint` or ``read_model``.
    """
    group = run.group
    for path in group.share([*candidates] if group.leads else None):
        state = read_in_step(run, path, read)
        if state is not None:
            return path, state
    return None


class Verifier:
    """Checks every byte of checkpoints that all processes see, each process some of the files."""

    def __init__(self, group: Group) -> None:
        """Check with ``group``."""
        self._group = group

    def check(self, path: Path) -> CheckpointError | None:
        """Return what is wrong with a checkpoint; all processes call this together, and get the same answer."""
        problem = None
        try:
            names = sorted(read_manifest(path).files)[self._group.rank :: self._group.size]
            if names:
                verify(path, names)
        except CheckpointError as error:
            problem = error
        return next((one for one in self._group.gather(problem) if one is not None), None)

    def __call__(self, path: Path) -> dict[str, Any]:
        """Check, in the leader, what the others have not asked for: they help.

        Raises:
            CheckpointError: it is damaged.
        """
        self._group.share(path)
        problem = self.check(path)
        if problem is not None:
            raise problem
        return {}

    def help(self) -> None:
        """Check what the leader checks, until it says that it has done."""
        while (path := self._group.share(None)) is not None:
            self.check(path)

    def end(self) -> None:
        """Say, in the leader, that it has done."""
        self._group.share(None)


def read_in_step(run: Run, path: Path, read: _Read = read_checkpoint) -> Any:
    """Return what ``read`` makes of a checkpoint, in every process; None, and a warning, where it is damaged."""
    group = run.group
    state, problem = None, None
    if group.mesh is not None:
        problem = Verifier(group).check(path)
    elif group.leads:
        try:
            state = read(path)
        except CheckpointError as error:
            problem = error
    problem = group.share(problem)
    if problem is not None:
        _logger.warning("passing over a damaged checkpoint: %s", problem)
        return None
    return group.share(state) if group.mesh is None else read_shares_of(run, path, read)


def read_shares_of(run: Run, path: Path, read: _Read = read_checkpoint) -> Any:
    """Return what ``read`` makes of a checkpoint that has been verified, each process its own shares.

    Raises:
        CheckpointError: this process cannot read it.
    """

    def allocate(spec: ShardedSpec) -> torch.Tensor:
        from torch.distributed.tensor import Replicate, Shard, empty

        placement = Replicate() if spec.dim is None else Shard(spec.dim)
        mesh = run.group.mesh
        return empty(spec.shape, dtype=spec.dtype, device_mesh=mesh, placements=[placement])

    return read(path, allocate)


def shared_out(run: Run, part: Any, state: Any) -> Any:
    """Return the state of a part with whole tensors shared out as the part's own are, where the run has shares."""
    if run.group.mesh is None:
        return state
    if isinstance(part, torch.optim.Optimizer):
        return _of_optimizer(part, state)
    if isinstance(part, nn.Module):
        return _of_named(part.state_dict(), state)
    if run.parts.ema is not None and part is run.parts.ema:
        return _of_average(run.parts.ema, state)
    return state


def _of_named(own: Mapping[str, Any], state: Any) -> Any:
    for name, value in state.items():
        state[name] = _fitted(value, own.get(name))
    return state


def _of_average(part: WeightAverage, state: Any) -> Any:
    return {**state, "weights": _of_named(part.state_dict()["weights"], state["weights"])}


def _of_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> Any:
    """Share out what is of a parameter's shape, as it is itself."""
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        for parameter, number in zip(group["params"], saved["params"], strict=True):
            values = state["state"].get(number, {})
            for name, value in values.items():
                values[name] = _fitted(value, parameter)
    return state


def _fitted(value: Any, own: Any) -> Any:
    tensors = isinstance(value, torch.Tensor) and isinstance(own, torch.Tensor)
    if tensors and is_sharded(own) and not is_sharded(value) and value.shape == own.shape:
        from dovetail.train.shards import like

        return like(value, own)
    return value
