"""What several processes train: copies of a model, whose gradients meet on the way back, or shares of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run


class _Together:
    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._buffers = [one for module in modules for one in module.buffers()]

    def align(self) -> None:
        """Give every process the leader's buffers, such as the running statistics of batch norms."""
        for one in self._buffers:
            torch.distributed.broadcast(one, 0)


class Replica(_Together):
    """Computes losses as a trainer does, with torch's ``DistributedDataParallel`` around the whole of it.

    So the parameters of a loss are trained together like the model's, and neither module changes: their ``state_dict``
    has the names it always had.
    """

    def __init__(self, modules: Iterable[nn.Module], compute: Callable[[Run, Batch], LossResult]) -> None:
        """Give every process the leader's weights.

        Args:
            modules: what is trained, on its device.
            compute: the trainer's ``compute_loss``.
        """
        modules = list(modules)
        super().__init__(modules)
        self._ddp = nn.parallel.DistributedDataParallel(_Step(modules, compute))
        self._ddp.broadcast_buffers = False  # which align() does, after the update: an evaluation sees them too
        self._left = 0

    def expect(self, batches: int) -> None:
        """Begin an update of so many batches; with the last one, the gradients are averaged over the processes."""
        self._left = batches

    def __call__(self, run: Run, batch: Batch) -> LossResult:
        """Compute the loss of a batch."""
        self._left -= 1
        self._ddp.require_backward_grad_sync = self._left == 0
        result: LossResult = self._ddp(run, batch)
        return result


class Shares(_Together):
    """Computes losses of modules that are shared out: every batch's gradients are averaged, and shared out too."""

    def __init__(self, modules: Iterable[nn.Module], compute: Callable[[Run, Batch], LossResult]) -> None:
        """Compute with ``compute``, the trainer's ``compute_loss``."""
        super().__init__(list(modules))
        self._compute = compute

    def expect(self, batches: int) -> None:
        """Begin an update of so many batches."""

    def __call__(self, run: Run, batch: Batch) -> LossResult:
        """Compute the loss of a batch."""
        return self._compute(run, batch)


class _Step(nn.Module):
    def __init__(self, modules: Iterable[nn.Module], compute: Callable[[Run, Batch], Any]) -> None:
        super().__init__()
        self.modules_together = nn.ModuleList(modules)
        self._compute = compute

    def forward(self, run: Run, batch: Batch) -> Any:
        return self._compute(run, batch)
