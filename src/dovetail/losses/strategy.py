"""Losses that a loop of your own calls with logits and labels.

In a run, a loss takes outputs and a batch. A loop of your own has logits, labels, and perhaps a mask: it calls a
:class:`LossStrategy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, final

import torch
from torch import Tensor, nn

from dovetail.losses.adapt import as_loss
from dovetail.losses.result import LossResult
from dovetail.losses.targets import read_targets
from dovetail.models.output import ModelOutput

if TYPE_CHECKING:
    from dovetail.data.batch import Batch


class LossInputs(TypedDict, total=False):
    """Optional inputs of a call, beside logits and labels."""

    logits: Tensor
    labels: Tensor
    #: True where a label counts: of the labels' shape, or of a prefix of it.
    attention_mask: Tensor | None
    #: A token that never counts as a label; for language modelling.
    pad_token_id: int | None
    #: The images, for a loss that reads them.
    pixel_values: Tensor | None
    #: One number ≥ 0 per class; for classification.
    class_weights: Tensor | None


class LossStrategy(Protocol):
    """A loss that a loop of your own calls with logits and labels."""

    def compute_loss(self, logits: Tensor, labels: Tensor, inputs: LossInputs | None = None) -> Tensor:
        """Return the mean loss, a scalar."""

    def validate_inputs(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError if shapes or types do not fit."""


class StrategyLoss(nn.Module, ABC):
    """The base class of losses that work in a run and as a :class:`LossStrategy`."""

    @abstractmethod
    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the loss of a batch."""

    @abstractmethod
    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError, with both shapes, if shapes or types do not fit. Reads no values."""

    @final
    def validate_inputs(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError if either is not a tensor, or their shapes or types do not fit. Reads no values."""
        given: dict[str, Any] = {"logits": logits, "labels": labels}
        for name, value in given.items():
            if not isinstance(value, Tensor):
                raise ValueError(  # noqa: TRY004 (the documented error)
                    f"{type(self).__name__}: {name} must be a tensor, not {type(value).__name__}"
                )
        self.check_shapes(logits, labels)

    def with_inputs(self, inputs: LossInputs) -> Self:
        """Return a loss with the options of a call in place of its own, or this loss if the call has none.

        Raises:
            ValueError: the call has an option that this loss does not take.
        """
        for name in ("pad_token_id", "class_weights"):
            if inputs.get(name) is not None:
                raise ValueError(f"{type(self).__name__} takes no {name}")
        return self

    def compute_loss(self, logits: Tensor, labels: Tensor, inputs: LossInputs | None = None) -> Tensor:
        """Return the mean loss, a scalar.

        Args:
            logits: the model's outputs.
            labels: the targets.
            inputs: a mask, images, and options for this call only.

        Raises:
            ValueError: shapes or types do not fit, or ``inputs`` has an option that this loss does not take.
        """
        self.validate_inputs(logits, labels)
        inputs = inputs or {}
        batch: Batch = {"targets": labels}
        mask, pixels = inputs.get("attention_mask"), inputs.get("pixel_values")
        if mask is not None:
            batch["mask"] = mask
        if pixels is not None:
            batch["inputs"] = pixels
        total: Tensor = self.with_inputs(inputs)(ModelOutput(logits), batch).total
        return total


@final
class LossAsStrategy(StrategyLoss):
    """Any loss of a run as a :class:`LossStrategy`.

    Args:
        loss: a native loss, or a plain ``(input, target)`` one.

    Raises:
        TypeError: ``loss`` is not a loss.
    """

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss
        self._call = as_loss(loss)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the loss of a batch."""
        return self._call(outputs, batch)

    @torch.no_grad()
    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Compute the loss once, so that it raises its own ValueError if shapes or types do not fit."""
        self(ModelOutput(logits), {"targets": labels})


@final
class StrategyAsLoss:
    """Any :class:`LossStrategy` as a loss of a run. Its mean counts as a mean over samples.

    Args:
        strategy: the strategy to call.
    """

    def __init__(self, strategy: LossStrategy) -> None:
        self.strategy = strategy

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the loss of a batch. The batch's mask becomes the ``attention_mask``.

        Raises:
            ValueError: shapes or types do not fit.
        """
        labels, inputs = read_targets(batch), LossInputs()
        if "mask" in batch:
            inputs["attention_mask"] = batch["mask"]
        self.strategy.validate_inputs(outputs.logits, labels)
        return LossResult(self.strategy.compute_loss(outputs.logits, labels, inputs), {}, float(len(labels)))
