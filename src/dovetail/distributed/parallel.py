"""How the processes of a run train one model: alone, as replicas (DDP), or with sharded weights (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.distributed.group import Group
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run

    ComputeLoss = Callable[[Run, Batch], LossResult]


class Parallel(Protocol):
    """What differs in a training step between one process and several."""

    @property
    def compute_loss(self) -> ComputeLoss:
        """Computes the loss of a batch. In its backward pass the processes average their gradients."""

    @property
    def after_update(self) -> Sequence[Callable[[], None]]:
        """Called after each update."""

    def begin_update(self, batches: int) -> None:
        """Prepare for an update from ``batches`` micro-batches."""


class Alone:
    """One process: the trainer's own ``compute_loss``, and nothing around it."""

    after_update: Sequence[Callable[[], None]] = ()

    def __init__(self, compute_loss: ComputeLoss) -> None:
        """Compute with the trainer's ``compute_loss``."""
        self.compute_loss = compute_loss

    def begin_update(self, batches: int) -> None:
        """Do nothing."""


class Replica:
    """Each process trains a replica, and torch's ``DistributedDataParallel`` averages the gradients.

    DDP wraps the whole of ``compute_loss``, so the parameters of a loss are trained like the model's, and neither
    module changes: their ``state_dict`` keys stay the same.
    """

    def __init__(self, compute_loss: ComputeLoss, modules: Iterable[nn.Module]) -> None:
        """Broadcast rank 0's weights.

        Args:
            compute_loss: the trainer's.
            modules: what is trained, on its device.
        """
        modules = list(modules)
        self._buffers = Buffers(modules)
        self.after_update = (self._buffers.broadcast,)
        self._ddp = nn.parallel.DistributedDataParallel(_LossModule(modules, compute_loss))
        # Buffers are broadcast after the update, so that an evaluation sees the same ones on every rank.
        self._ddp.broadcast_buffers = False
        self._left = 0

    def begin_update(self, batches: int) -> None:
        """Average the gradients in the backward pass of the last of ``batches``."""
        self._left = batches

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Compute the loss of a batch."""
        self._left -= 1
        self._ddp.require_backward_grad_sync = self._left == 0
        result: LossResult = self._ddp(run, batch)
        return result


class Sharded:
    """Each process holds a shard of the weights; FSDP2 averages and shards the gradients of every batch."""

    def __init__(self, compute_loss: ComputeLoss, modules: Iterable[nn.Module]) -> None:
        """Compute with the trainer's ``compute_loss`` on ``modules`` that are already sharded."""
        self.compute_loss = compute_loss
        self.after_update = (Buffers(modules).broadcast,)

    def begin_update(self, batches: int) -> None:
        """Do nothing."""


class Buffers:
    """The buffers of modules, such as the running statistics of batch norms, which rank 0 broadcasts."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        """Collect the buffers of ``modules``."""
        self._buffers = [buffer for module in modules for buffer in module.buffers()]

    def broadcast(self) -> None:
        """Give every process rank 0's buffers."""
        for buffer in self._buffers:
            torch.distributed.broadcast(buffer, 0)


class _LossModule(nn.Module):
    def __init__(self, modules: Iterable[nn.Module], compute_loss: ComputeLoss) -> None:
        super().__init__()
        self.trained = nn.ModuleList(modules)
        self._compute_loss = compute_loss

    def forward(self, run: Run, batch: Batch) -> Any:
        return self._compute_loss(run, batch)


def parallelize(group: Group, compute_loss: ComputeLoss, modules: Iterable[nn.Module]) -> Parallel:
    """Return how ``group`` trains ``modules`` with a trainer's ``compute_loss``."""
    if group.size == 1:
        return Alone(compute_loss)
    return (Replica if group.mesh is None else Sharded)(compute_loss, modules)
