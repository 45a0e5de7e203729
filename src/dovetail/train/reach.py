"""Whether a loss trains the model at all, found at the first update: a loss that does not would pass for a poor one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dovetail.checkpoint.sharded import local_shard
from dovetail.train.errors import MisfitError
from dovetail.train.standard import StandardTrainer

if TYPE_CHECKING:
    from torch import Tensor

    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run

#: The type of the alert on a first update without any gradient.
ZERO_GRADIENT: Final = "zero_gradient"


class Reaching:
    """The gradients of the first update, which must reach the model, and should not all be 0."""

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
        gradients = [local_shard(one.grad) for one in trained if one.grad is not None]
        if trained and not gradients:
            raise self._misfit()
        if trained and not any(self._run.group.gather(any(bool(one.any()) for one in gradients))):
            self._warn()
        return found[0], list(found[1])

    def _culprit(self) -> tuple[str, str]:
        """Return the place and name of what computes the loss: the part, unless a trainer has its own way."""
        config = self._run.config
        if type(self._trainer).compute_loss is not StandardTrainer.compute_loss:
            return "trainer", config.trainer.name
        return "loss", config.loss.name

    def _warn(self) -> None:
        path, name = self._culprit()
        self._run.alert(
            ZERO_GRADIENT,
            f"the gradient of {path} '{name}' in the first update is 0 for every weight of the model: unless training "
            "is meant to begin so, something multiplies it by 0, or is saturated, and nothing is trained",
            cooldown=math.inf,
        )

    def _misfit(self) -> MisfitError:
        path, name = self._culprit()
        return MisfitError(
            path,
            f"no gradient of '{name}' reaches the model, so nothing would be trained: its total must be computed from "
            "the model's outputs by torch alone, without detach(), item(), numpy() or argmax() on the way",
        )
