"""The base class of losses that wrap another loss, and the loss that they wrap by default."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from dovetail.losses.classification import ClassificationLoss
from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.losses.result import LossResult
from dovetail.losses.strategy import LossAsStrategy, LossInputs, StrategyLoss

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class LossWrapper(StrategyLoss):
    """A loss that changes the value or the gradient of another loss.

    Args:
        loss: the wrapped loss; None for next-token cross-entropy of logits ``[batch, time, vocabulary]``, and
            cross-entropy of classes for any other shape.

    Raises:
        TypeError: ``loss`` is not a loss.
    """

    def __init__(self, loss: Any = None) -> None:
        super().__init__()
        wrapped = TokenOrClassLoss() if loss is None else loss
        self.loss: StrategyLoss = wrapped if isinstance(wrapped, StrategyLoss) else LossAsStrategy(wrapped)

    @abstractmethod
    def with_loss(self, loss: StrategyLoss) -> Self:
        """Return a wrapper with the same options around another loss."""

    def with_inputs(self, inputs: LossInputs) -> Self:
        """Return this wrapper if ``inputs`` has no options for the wrapped loss, else one around a loss with them."""
        loss = self.loss.with_inputs(inputs)
        return self if loss is self.loss else self.with_loss(loss)

    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError if shapes or types do not fit the wrapped loss."""
        self.loss.check_shapes(logits, labels)


class TokenOrClassLoss(StrategyLoss):
    """Next-token cross-entropy of logits ``[batch, time, vocabulary]``; cross-entropy of classes for any other shape.

    Args:
        tokens: the loss of the former; None for :class:`~dovetail.losses.language_modeling.LanguageModelingLoss`.
        classes: the loss of the latter; None for :class:`~dovetail.losses.classification.ClassificationLoss`.
    """

    def __init__(self, tokens: StrategyLoss | None = None, classes: StrategyLoss | None = None) -> None:
        super().__init__()
        self.tokens = tokens or LanguageModelingLoss()
        self.classes = classes or ClassificationLoss()

    def with_inputs(self, inputs: LossInputs) -> Self:
        """Return a loss with the ``pad_token_id`` and ``class_weights`` of a call."""
        return type(self)(
            self.tokens.with_inputs({"pad_token_id": inputs.get("pad_token_id")}),
            self.classes.with_inputs({"class_weights": inputs.get("class_weights")}),
        )

    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError if shapes or types do not fit the loss for these logits."""
        self._loss_for(logits).check_shapes(logits, labels)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the loss of a batch."""
        result: LossResult = self._loss_for(outputs.logits)(outputs, batch)
        return result

    def _loss_for(self, logits: Tensor) -> StrategyLoss:
        return self.tokens if logits.ndim == len(("batch", "time", "vocabulary")) else self.classes
