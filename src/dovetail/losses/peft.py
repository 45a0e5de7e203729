"""Parameter-efficient fine-tuning: a frozen base model, and adapters that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from torch import nn

from dovetail.losses.result import LossResult
from dovetail.losses.strategy import StrategyLoss
from dovetail.losses.wrapper import LossWrapper
from dovetail.spec import Loss, MoreThan

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput
    from dovetail.train.context import Run


class PEFTAwareLoss(LossWrapper):
    """Another loss times ``adapter_scale``, with a check of which parameters of the model train.

    The model freezes its parameters itself: a parameter without ``requires_grad`` gets no gradient and is not in the
    optimizer. This loss reports a model in which no parameter trains, or the base trains too. A run raises an alert at
    its start.

    Args:
        base_model_frozen: whether the base should be frozen, so that not every parameter trains.
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
            raise ValueError(f"adapter_scale: must be above 0, got {adapter_scale:g}")
        self.base_model_frozen = base_model_frozen
        self.adapter_scale = adapter_scale

    def with_loss(self, loss: StrategyLoss) -> Self:
        """Return a loss with the same options around another loss."""
        return type(self)(self.base_model_frozen, self.adapter_scale, loss=loss)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the other loss, scaled."""
        result: LossResult = self.loss(outputs, batch)
        scaled = {name: part * self.adapter_scale for name, part in result.parts.items()}
        return LossResult(result.total * self.adapter_scale, scaled, result.weight)

    def check_model(self, model: nn.Module) -> None:
        """Check which parameters of a model train.

        Raises:
            ValueError: no parameter trains; or every parameter does, although ``base_model_frozen``.
        """
        problem = self._problem(model)
        if problem is not None:
            raise ValueError(problem)

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if no parameter of the model trains, or every one although ``base_model_frozen``."""
        problem = self._problem(run.parts.model)
        if problem is not None:
            run.alert("peft", problem)

    def _problem(self, model: nn.Module) -> str | None:
        trains = [parameter.requires_grad for parameter in model.parameters()]
        if not any(trains):
            return "nothing trains: every parameter of the model is frozen, including the adapters"
        if self.base_model_frozen and all(trains):
            return (
                "every parameter trains, although base_model_frozen is true; freeze the base with "
                "requires_grad_(False), or set base_model_frozen = false"
            )
        return None
