"""Cross-entropy of whatever labels there are: what a loss around another takes unless told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torch import Tensor

from dovetail.losses.classification import ClassificationLoss
from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.losses.result import LossResult
from dovetail.losses.strategy import LossInputs, StrategyLoss

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class LabelsLoss(StrategyLoss):
    """Next-token cross-entropy for logits ``[batch, time, vocabulary]``, else cross-entropy of classes.

    Args:
        tokens: the loss of the former; None for :class:`~dovetail.losses.language_modeling.LanguageModelingLoss`.
        classes: that of the latter; None for :class:`~dovetail.losses.classification.ClassificationLoss`.
    """

    def __init__(self, tokens: StrategyLoss | None = None, classes: StrategyLoss | None = None) -> None:
        super().__init__()
        self.tokens = tokens or LanguageModelingLoss()
        self.classes = classes or ClassificationLoss()

    def given(self, inputs: LossInputs) -> Self:
        """Return the loss with the ``pad_token_id`` and ``class_weights`` of a call."""
        return type(self)(
            self.tokens.given({"pad_token_id": inputs.get("pad_token_id")}),
            self.classes.given({"class_weights": inputs.get("class_weights")}),
        )

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Look at shapes and types, as the loss that fits does."""
        self._fitting(logits).check(logits, labels)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the loss that fits."""
        result: LossResult = self._fitting(outputs.logits)(outputs, batch)
        return result

    def _fitting(self, logits: Tensor) -> StrategyLoss:
        return self.tokens if logits.ndim == len(("batch", "time", "vocabulary")) else self.classes
