"""Losses around another one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from torch import Tensor

from dovetail.losses.labels import LabelsLoss
from dovetail.losses.strategy import AnyLoss, LossInputs, StrategyLoss


class LossAround(StrategyLoss):
    """A loss that changes something about another one.

    Args:
        loss: the other; None for the cross-entropy of whatever labels there are.

    Raises:
        TypeError: it is no loss.
    """

    def __init__(self, loss: Any = None) -> None:
        super().__init__()
        found = LabelsLoss() if loss is None else loss
        self.loss: StrategyLoss = found if isinstance(found, StrategyLoss) else AnyLoss(found)

    @abstractmethod
    def with_loss(self, loss: StrategyLoss) -> Self:
        """Return the same around another loss."""

    def given(self, inputs: LossInputs) -> Self:
        """Return the same around the other loss with what a call says in place of its options."""
        loss = self.loss.given(inputs)
        return self if loss is self.loss else self.with_loss(loss)

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Look at shapes and types, as the other loss does."""
        self.loss.check(logits, labels)
