"""Next-token prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch.nn.functional as F
from torch import Tensor

from dovetail.losses.result import LossResult
from dovetail.losses.strategy import LossInputs, StrategyLoss
from dovetail.losses.targets import LabelGuard, read_targets

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class LanguageModelingLoss(StrategyLoss):
    """Cross-entropy of each next token, averaged over the tokens that count.

    A target does not count where it is ``ignore_index`` or ``pad_token_id``, or where the batch's mask is false. The
    weight of the result is the number of tokens that count, so micro-batches with different amounts of padding add up
    exactly.

    Args:
        shift: whether targets are the inputs themselves, so that position ``t`` predicts target ``t + 1``; false if the
            collator has shifted them.
        pad_token_id: a token that never counts as a target. If a real token, such as the end of a text, has the same
            id as padding, leave this out and use a mask.
        ignore_index: a target that does not count.
    """

    def __init__(self, *, shift: bool = True, pad_token_id: int | None = None, ignore_index: int = -100) -> None:
        super().__init__()
        self.shift = shift
        self.pad_token_id = pad_token_id
        self.ignore_index = ignore_index
        self._guard = LabelGuard("language_modeling", ignore_index)

    def with_inputs(self, inputs: LossInputs) -> Self:
        """Return a loss with the ``pad_token_id`` of a call in place of its own."""
        pad = inputs.get("pad_token_id")
        if pad is None:
            return super().with_inputs(inputs)
        return type(self)(shift=self.shift, pad_token_id=pad, ignore_index=self.ignore_index)

    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Check shapes and types.

        Args:
            logits: ``[batch, time, vocabulary]``.
            labels: integers ``[batch, time]``.

        Raises:
            ValueError: they do not fit.
        """
        shape = list(logits.shape)
        if logits.ndim != len(("batch", "time", "vocabulary")) or list(labels.shape) != shape[:2]:
            raise ValueError(
                f"language_modeling: outputs have shape {shape} and targets {list(labels.shape)}; "
                "it needs [batch, time, vocabulary] and [batch, time]"
            )
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"language_modeling: targets are {labels.dtype}; it needs tokens, which are integers")

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean loss per token that counts.

        Args:
            outputs: logits ``[batch, time, vocabulary]``.
            batch: integer targets ``[batch, time]``, and optionally a mask of that shape, false for padding.

        Raises:
            ValueError: shapes do not fit, or a token is not in the vocabulary.
        """
        logits, targets, mask = outputs.logits, read_targets(batch), batch.get("mask")
        self.check_shapes(logits, targets)
        if mask is not None and mask.shape != targets.shape:
            raise ValueError(f"language_modeling: the mask has shape {list(mask.shape)}, targets {list(targets.shape)}")
        targets = targets.long()
        if mask is not None:
            targets = targets.where(mask.bool(), self.ignore_index)
        if self.pad_token_id is not None:
            targets = targets.where(targets != self.pad_token_id, self.ignore_index)
        if self.shift:  # shifts the targets: slicing the logits would copy them
            targets = F.pad(targets[:, 1:], (0, 1), value=self.ignore_index)
        flat = targets.flatten()
        summed = self._guard(
            lambda: F.cross_entropy(logits.flatten(0, 1), flat, ignore_index=self.ignore_index, reduction="sum"),
            flat,
            logits.shape[-1],
        )
        weight = (flat != self.ignore_index).sum()
        return LossResult(summed / weight.clamp(min=1), {}, weight)
