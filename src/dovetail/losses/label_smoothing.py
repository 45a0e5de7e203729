"""Cross-entropy against smoothed labels.

Szegedy et al., «Rethinking the Inception architecture for computer vision», 2016.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.kernel.kind import Provided
from dovetail.losses.class_weights import ClassWeights, read_class_weights
from dovetail.spec.limits import Between


class LabelSmoothingCrossEntropy(nn.Module):
    """Cross-entropy against ``(1 - smoothing) · label + smoothing / classes``.

    A model that is sure of every answer pays for it, which keeps its probabilities honest.

    Args:
        smoothing: share of probability spread over all classes, 0 to 1.
        weight: one number ≥ 0 per class, or ``"balanced"``: inverse frequency in the training split.
        reduction: ``"mean"`` is over class weight; a run averages ``"none"`` to the same, and refuses
            ``"sum"``.
        ignore_index: a label that does not count.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: ``smoothing`` is not between 0 and 1, or ``weight`` does not fit.
    """

    weight: Tensor | None

    def __init__(
        self,
        smoothing: Annotated[float, Between(0, 1)] = 0.1,
        weight: ClassWeights = None,
        reduction: Literal["mean", "none", "sum"] = "mean",
        *,
        ignore_index: int = -100,
        class_counts: Annotated[list[int] | None, Provided] = None,
    ) -> None:
        super().__init__()
        if not 0 <= smoothing <= 1:
            msg = f"smoothing: must be between 0 and 1, got {smoothing:g}"
            raise ValueError(msg)
        self.smoothing = smoothing
        self.reduction: Literal["mean", "none", "sum"] = reduction
        self.ignore_index = ignore_index
        # Not part of the state: the config says it.
        self.register_buffer("weight", read_class_weights("weight", weight, class_counts), persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 (torch's own name for it)
        """Return the loss.

        Args:
            input: logits ``[batch, classes, …]``.
            target: labels ``[batch, …]``, or class probabilities of the logits' shape.
        """
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.smoothing,
        )
