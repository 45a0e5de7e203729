"""Losses that are also called with logits and labels, outside of a run.

In a run a loss is given outputs and a batch. In a loop of one's own there are logits, labels, and perhaps a mask:
:class:`LossStrategy` is what such a loop calls.
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
    """What else a call may say, besides logits and labels."""

    logits: Tensor
    labels: Tensor
    #: True where a label counts: of the labels' shape, or of its beginning.
    attention_mask: Tensor | None
    #: A token that never counts as a label; for language modelling.
    pad_token_id: int | None
    #: The images, for a loss that looks at them.
    pixel_values: Tensor | None
    #: One number ≥ 0 per class; for classification.
    class_weights: Tensor | None


class LossStrategy(Protocol):
    """What a loop of one's own calls."""

    def compute_loss(self, logits: Tensor, labels: Tensor, inputs: LossInputs | None = None) -> Tensor:
        """Return the mean loss, a scalar."""

    def validate_inputs(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError if shapes or types do not fit."""


class StrategyLoss(nn.Module, ABC):
    """A loss of a run that is a :class:`LossStrategy` too."""

    @abstractmethod
    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the loss of a batch."""

    @abstractmethod
    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Look at the shapes and types of tensors, not at values.

        Raises:
            ValueError: they do not fit; the message has both shapes.
        """

    @final
    def validate_inputs(self, logits: Tensor, labels: Tensor) -> None:
        """Look at whether they are tensors at all, and at their shapes and types, not at values.

        Raises:
            ValueError: they do not fit.
        """
        given: dict[str, Any] = {"logits": logits, "labels": labels}
        for name, one in given.items():
            if not isinstance(one, Tensor):
                msg = f"{type(self).__name__}: {name} must be a tensor, not {type(one).__name__}"
                raise ValueError(msg)  # noqa: TRY004 (what the documents promise)
        self.check(logits, labels)

    def given(self, inputs: LossInputs) -> Self:
        """Return the loss with what a call says in place of its own options: itself, where that is nothing.

        Raises:
            ValueError: the call says what this loss cannot take.
        """
        for name in ("pad_token_id", "class_weights"):
            if inputs.get(name) is not None:
                msg = f"{type(self).__name__} takes no {name}"
                raise ValueError(msg)
        return self

    def compute_loss(self, logits: Tensor, labels: Tensor, inputs: LossInputs | None = None) -> Tensor:
        """Return the mean loss, a scalar.

        Args:
            logits: the model's outputs.
            labels: what they should have been.
            inputs: what else there is to say.

        Raises:
            ValueError: shapes or types do not fit, or ``inputs`` says what this loss cannot take.
        """
        self.validate_inputs(logits, labels)
        said = inputs or {}
        total: Tensor = self.given(said)(ModelOutput(logits), _batch(labels, said)).total
        return total


def _batch(labels: Tensor, inputs: LossInputs) -> Batch:
    batch: Batch = {"targets": labels}
    mask, pixels = inputs.get("attention_mask"), inputs.get("pixel_values")
    if mask is not None:
        batch["mask"] = mask
    if pixels is not None:
        batch["inputs"] = pixels
    return batch


@final
class AnyLoss(StrategyLoss):
    """Any loss of a run as a :class:`LossStrategy`.

    Args:
        loss: native, or a plain ``(input, target)`` one.

    Raises:
        TypeError: it is no loss.
    """

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss
        self._call = as_loss(loss)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return its loss of a batch."""
        return self._call(outputs, batch)

    @torch.no_grad()
    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Try the loss: what it refuses itself is refused.

        Raises:
            ValueError: it refuses; the message is its own.
        """
        self(ModelOutput(logits), {"targets": labels})


@final
class StrategyInRun:
    """Any :class:`LossStrategy` as a loss of a run: a mean over samples, as far as anyone can tell.

    Args:
        strategy: what to call.
    """

    def __init__(self, strategy: LossStrategy) -> None:
        self.strategy = strategy

    def __call__(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the loss of a batch, whose mask becomes the ``attention_mask``.

        Raises:
            ValueError: shapes or types do not fit.
        """
        labels, said = read_targets(batch), LossInputs()
        if "mask" in batch:
            said["attention_mask"] = batch["mask"]
        self.strategy.validate_inputs(outputs.logits, labels)
        return LossResult(self.strategy.compute_loss(outputs.logits, labels, said), {}, float(len(labels)))
