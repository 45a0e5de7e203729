"""Parameter-efficient fine-tuning: a frozen base, and adapters that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from torch import nn

from dovetail.losses.around import LossAround
from dovetail.losses.result import LossResult
from dovetail.losses.strategy import StrategyLoss
from dovetail.spec.limits import MoreThan
from dovetail.spec.protocols import Loss

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput
    from dovetail.train.context import Run


class PEFTAwareLoss(LossAround):
    """Another loss times ``adapter_scale``, and a look at what of the model trains.

    Freezing is the model's: a parameter without ``requires_grad`` gets no gradient and is no part of the optimizer.
    This loss says so when it was forgotten, or done to everything. In a run that is an alert at the beginning.

    Args:
        base_model_frozen: whether the base shall be frozen, so that not everything trains.
        adapter_scale: factor of the loss, and so of the adapters' gradients, above 0.
        loss: the other loss; by default next-token cross-entropy for logits ``[batch, time, vocabulary]``, else
            cross-entropy of classes.

    Raises:
        ValueError: ``adapter_scale`` is not above 0.
    """

    def __init__(
        self,
        base_model_frozen: bool = True,  # noqa: FBT001, FBT002 (the documented signature)
        adapter_scale: Annotated[float, MoreThan(0)] = 1.0,
        *,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(loss)
        if adapter_scale <= 0:
            msg = f"adapter_scale: must be above 0, got {adapter_scale:g}"
            raise ValueError(msg)
        self.base_model_frozen = base_model_frozen
        self.adapter_scale = adapter_scale

    def with_loss(self, loss: StrategyLoss) -> Self:
        """Return the same around another loss."""
        return type(self)(self.base_model_frozen, self.adapter_scale, loss=loss)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the other loss, scaled."""
        result: LossResult = self.loss(outputs, batch)
        scaled = {name: part * self.adapter_scale for name, part in result.parts.items()}
        return LossResult(result.total * self.adapter_scale, scaled, result.weight)

    def check_model(self, model: nn.Module) -> None:
        """Look at what of the model trains.

        Raises:
            ValueError: nothing does; or everything does, though ``base_model_frozen``.
        """
        problem = self._problem(model)
        if problem is not None:
            raise ValueError(problem)

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if the model is not what this loss is for."""
        problem = self._problem(run.parts.model)
        if problem is not None:
            run.alert("peft", problem)

    def _problem(self, model: nn.Module) -> str | None:
        trains = [one.requires_grad for one in model.parameters()]
        if not any(trains):
            return "nothing trains: every parameter of the model is frozen, the adapters' too"
        if self.base_model_frozen and all(trains):
            return (
                "everything trains, although base_model_frozen says that the base does not; freeze it with "
                "requires_grad_(False), or set base_model_frozen = false"
            )
        return None
