"""Whether a loss trains the model at all, found at the first update: a loss that does not would pass for a poor one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dovetail.train.errors import MisfitError
from dovetail.train.standard import StandardTrainer

if TYPE_CHECKING:
    from torch import Tensor

    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run


class Reaching:
    """The gradients of the first update, which must reach the model."""

    def __init__(self, trainer: StandardTrainer, run: Run) -> None:
        """Stand before the gradients of the run."""
        self._trainer, self._run, self._gradients = trainer, run, run.gradients

    @property
    def norm(self) -> Tensor | float | None:
        """The norm of the gradients of the update, where it was computed."""
        return self._gradients.norm

    def compute(self, *arguments: Any) -> tuple[Tensor, list[LossResult]]:
        """Compute the gradients of an update.

        Raises:
            MisfitError: no parameter of the model has one.
        """
        try:
            found: tuple[Tensor, Sequence[LossResult]] = self._gradients.compute(*arguments)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise self._misfit() from error
        trained = [one for one in self._run.parts.model.parameters() if one.requires_grad]
        if trained and all(one.grad is None for one in trained):
            raise self._misfit()
        return found[0], list(found[1])

    def _misfit(self) -> MisfitError:
        # Whoever computes the loss is at fault: the part, unless a trainer has its own way.
        if type(self._trainer).compute_loss is not StandardTrainer.compute_loss:
            path, name = "trainer", self._run.config.trainer.name
        else:
            path, name = "loss", self._run.config.loss.name
        return MisfitError(
            path,
            f"no gradient of '{name}' reaches the model, so nothing would be trained: its total must be computed from "
            "the model's outputs by torch alone, without detach(), item(), numpy() or argmax() on the way",
        )
