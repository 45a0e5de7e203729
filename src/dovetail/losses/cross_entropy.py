"""Torch's cross-entropy, with class weights that a run file can say."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import nn

from dovetail.kernel.kind import Provided
from dovetail.losses.class_weights import ClassWeights, read_class_weights
from dovetail.spec.limits import Between


def cross_entropy(
    weight: ClassWeights = None,
    *,
    ignore_index: int = -100,
    label_smoothing: Annotated[float, Between(0, 1)] = 0.0,
    reduction: Literal["mean", "none", "sum"] = "mean",
    class_counts: Annotated[list[int] | None, Provided] = None,
) -> nn.CrossEntropyLoss:
    """Return ``torch.nn.CrossEntropyLoss``.

    It takes logits ``[batch, classes, …]`` and labels ``[batch, …]``, or class probabilities of the logits'
    shape.

    Args:
        weight: one number ≥ 0 per class, or ``"balanced"``: inverse frequency in the training split.
        ignore_index: a label that does not count.
        label_smoothing: share of probability spread over all classes, 0 to 1.
        reduction: ``"mean"`` is over class weight; a run averages ``"none"`` to the same, and refuses
            ``"sum"``.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: ``weight`` has a negative number or the wrong length, or is ``"balanced"`` and the counts
            are unknown.
    """
    return nn.CrossEntropyLoss(
        weight=read_class_weights("weight", weight, class_counts),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
