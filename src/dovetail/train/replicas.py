"""The copies of a model that several processes train: gradients of the last batch of an update meet on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run


class Replica:
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
        self._ddp = nn.parallel.DistributedDataParallel(_Step(modules, compute))
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


class _Step(nn.Module):
    def __init__(self, modules: Iterable[nn.Module], compute: Callable[[Run, Batch], Any]) -> None:
        super().__init__()
        self.modules_together = nn.ModuleList(modules)
        self._compute = compute

    def forward(self, run: Run, batch: Batch) -> Any:
        return self._compute(run, batch)
