"""The standard trainer: five seams, and everything around them in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dovetail.data.transfer import to_device

if TYPE_CHECKING:
    from torch import Tensor

    from dovetail.data.batch import Batch
    from dovetail.data.loader import Loader
    from dovetail.losses.result import LossResult
    from dovetail.models.output import ModelOutput
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome


class StandardTrainer:
    """Trains by epochs or updates, validates, keeps the best checkpoint, and tests it at the end.

    A trainer of your own says only what differs, by overriding some of the methods below. ``fit`` stays as it is:
    checkpoints, budgets, hooks and stopping live there. How long, how precisely and how often are settings of the run
    (``[training]``), the same for every trainer.
    """

    def batches(self, run: Run) -> Iterable[Batch]:
        """Return the batches of the epoch ``run.state.epoch``, counted from 1.

        ``run.state.batch`` of them have been trained on already, in a run that is resumed: those are left out.
        """
        return run.parts.loaders.train.batches(run.state.epoch, run.state.batch)

    def num_batches(self, loader: Loader) -> int:
        """Return how many batches ``batches`` gives in an epoch, by which schedules know the length of the run.

        Args:
            loader: that of the training split, ``run.parts.loaders.train``.
        """
        return len(loader)

    def prepare_batch(self, run: Run, batch: Batch) -> Batch:
        """Return the batch as the model shall see it: moved to the run's device, without waiting for the copy."""
        return batch if run.device.type == "cpu" else to_device(batch, run.device)

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Run the model forward and compute the loss to minimise."""
        return run.criterion(run.forward(batch), batch)

    def update(self, run: Run, closure: Callable[[], Tensor]) -> Tensor:
        """Update the parameters once.

        Args:
            run: the run.
            closure: clears the gradients, computes them anew and returns the loss, a 0-d tensor. An optimizer that
                needs several evaluations may call it again.

        Returns:
            The loss.
        """
        return run.gradients.update(closure)

    def evaluation_step(self, run: Run, batch: Batch) -> tuple[ModelOutput, LossResult]:
        """Return the outputs and the loss of one batch of validation or test; gradients are off."""
        outputs = run.forward(batch)
        return outputs, run.criterion(outputs, batch)

    def fit(self, run: Run) -> Outcome:
        """Train until done or told to stop.

        Raises:
            TrainingError: training cannot go on; the message says why and what helps.
        """
        from dovetail.train.session import Session

        return Session(self, run).fit()
