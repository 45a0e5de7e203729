"""The standard trainer: five seams, and one place for everything around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, final

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

    A trainer of your own overrides the methods that differ. ``fit`` stays: checkpoints, budgets, hooks and stopping
    live there. Length, precision and cadences are settings of the run (``[training]``), the same for every trainer.
    """

    def batches(self, run: Run) -> Iterable[Batch]:
        """Return the batches of the epoch ``run.state.epoch``, counted from 1.

        In a resumed run, skip the first ``run.state.batch`` of them: they have been trained on.
        """
        return run.parts.loaders.train.batches(run.state.epoch, run.state.batch)

    def num_batches(self, loader: Loader) -> int:
        """Return how many batches ``batches`` yields per epoch; schedules derive the length of the run from it.

        Args:
            loader: the loader of the training split, ``run.parts.loaders.train``.
        """
        return len(loader)

    def prepare_batch(self, run: Run, batch: Batch) -> Batch:
        """Return the batch as the model receives it: on the run's device, without waiting for the copy."""
        return batch if run.device.type == "cpu" else to_device(batch, run.device)

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Run the model forward and compute the loss to minimise."""
        return run.criterion(run.forward(batch), batch)

    def update(self, run: Run, closure: Callable[[], Tensor]) -> Tensor:
        """Update the parameters once.

        Args:
            run: the run.
            closure: clears the gradients, computes new ones and returns the loss, a 0-d tensor. An optimizer that
                evaluates the loss several times may call it again.

        Returns:
            The loss.
        """
        return run.gradients.update(closure)

    def evaluation_step(self, run: Run, batch: Batch) -> tuple[ModelOutput, LossResult]:
        """Return the outputs and the loss of one batch of validation or test, without gradients."""
        outputs = run.forward(batch)
        return outputs, run.criterion(outputs, batch)

    def fit(self, run: Run) -> Outcome:
        """Train until the end of the plan or a request to stop.

        Raises:
            TrainingError: training cannot continue; the message says why and what helps.
        """
        from dovetail.train.session import Session

        return Session(self, run).fit()

    @final
    def overrides(self, seam: str) -> bool:
        """Return whether this trainer's class overrides the method named ``seam``."""
        return getattr(type(self), seam) is not getattr(StandardTrainer, seam)
