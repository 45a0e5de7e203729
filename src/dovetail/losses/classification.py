"""Cross-entropy of classes: torch's own, with smoothed labels, and as a native loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.losses.class_weights import ClassWeights, read_class_weights
from dovetail.losses.result import LossResult, safe_mean
from dovetail.losses.strategy import LossInputs, StrategyLoss
from dovetail.losses.targets import LabelGuard, read_targets, target_mask
from dovetail.spec import Between, Provided

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


def cross_entropy(
    weight: ClassWeights = None,
    *,
    ignore_index: int = -100,
    label_smoothing: Annotated[float, Between(0, 1)] = 0.0,
    reduction: Literal["mean", "none", "sum"] = "mean",
    class_counts: Annotated[list[int] | None, Provided] = None,
) -> nn.CrossEntropyLoss:
    """Return ``torch.nn.CrossEntropyLoss``.

    It takes logits ``[batch, classes, …]`` and labels ``[batch, …]``, or class probabilities of the logits' shape.

    Args:
        weight: one number ≥ 0 per class, or ``"balanced"``: inverse class frequency in the training split.
        ignore_index: a label that does not count.
        label_smoothing: fraction of probability spread over all classes, 0 to 1.
        reduction: ``"mean"`` is over class weight; a run averages ``"none"`` to the same value, and refuses ``"sum"``.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: ``weight`` has a negative number or the wrong length, or is ``"balanced"`` and the counts are
            unknown.
    """
    return nn.CrossEntropyLoss(
        weight=read_class_weights("weight", weight, class_counts),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


class LabelSmoothingCrossEntropy(nn.Module):
    """Cross-entropy against ``(1 - smoothing) · label + smoothing / classes``.

    It penalises a model that is certain of every answer, which improves the calibration of its probabilities. Szegedy
    et al., «Rethinking the Inception architecture for computer vision», 2016.

    Args:
        smoothing: fraction of probability spread over all classes, 0 to 1.
        weight: one number ≥ 0 per class, or ``"balanced"``: inverse class frequency in the training split.
        reduction: ``"mean"`` is over class weight; a run averages ``"none"`` to the same value, and refuses ``"sum"``.
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
            raise ValueError(f"smoothing: must be between 0 and 1, got {smoothing:g}")
        self.smoothing = smoothing
        self.reduction: Literal["mean", "none", "sum"] = reduction
        self.ignore_index = ignore_index
        # The config holds the weights, so no checkpoint does.
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


class ClassificationLoss(StrategyLoss):
    """Cross-entropy of one label per sample, a mean over class weight.

    Args:
        class_weights: one number ≥ 0 per class, or ``"balanced"``: inverse class frequency in the training split.
        ignore_index: a label that does not count.
        label_smoothing: fraction of probability spread over all classes, 0 to 1.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: ``class_weights`` has a negative number or the wrong length, or is ``"balanced"`` and the counts are
            unknown; or ``label_smoothing`` is not between 0 and 1.
    """

    #: The logits' dimensions after batch and classes: none for one label per sample.
    _space: ClassVar[tuple[str, ...]] = ()

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: ClassWeights = None,
        ignore_index: int = -100,
        label_smoothing: Annotated[float, Between(0, 1)] = 0.0,
        class_counts: Annotated[list[int] | None, Provided] = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing: must be between 0 and 1, got {label_smoothing:g}")
        # The config holds the weights, so no checkpoint does.
        weights = read_class_weights("class_weights", class_weights, class_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self._guard = LabelGuard(type(self).__name__, ignore_index)

    def with_inputs(self, inputs: LossInputs) -> Self:
        """Return a loss with the ``class_weights`` of a call in place of its own."""
        weights = inputs.get("class_weights")
        if weights is None:
            return super().with_inputs(inputs)
        return type(self)(class_weights=weights, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing)

    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Check shapes and types.

        Args:
            logits: ``[batch, classes]``.
            labels: integers ``[batch]``.

        Raises:
            ValueError: they do not fit.
        """
        name, wanted = type(self).__name__, ", ".join(("batch", "classes", *self._space))
        if logits.ndim != len(("batch", "classes", *self._space)) or not logits.is_floating_point():
            raise ValueError(
                f"{name}: logits are {logits.dtype} of shape {list(logits.shape)}; it needs scores [{wanted}]"
            )
        shape = [*logits.shape[:1], *logits.shape[2:]]
        if labels.is_floating_point() or labels.is_complex():
            hint = ""
            if labels.shape == logits.shape:
                hint = "; for class probabilities, as mixup makes them, use cross_entropy, focal or label_smoothing"
            raise ValueError(
                f"{name}: labels are {labels.dtype}; it needs one class label each, integers of shape {shape}{hint}"
            )
        if list(labels.shape) != shape:
            raise ValueError(
                f"{name}: logits have shape {list(logits.shape)}, so labels must have shape {shape}, "
                f"not {list(labels.shape)}"
            )
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            raise ValueError(
                f"{name}: class_weights has {len(self.class_weights)} numbers for {logits.shape[1]} classes"
            )

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean loss over class weight.

        Raises:
            ValueError: shapes or types do not fit, or a label is out of range.
        """
        logits, labels = outputs.logits, read_targets(batch)
        self.check_shapes(logits, labels)
        mask, labels = target_mask(batch, labels), labels.long()
        if mask is not None:
            labels = labels.where(mask, self.ignore_index)
        kept, weights = labels != self.ignore_index, self.class_weights
        if weights is not None:
            weights = weights.to(logits.dtype)
        summed = self._guard(
            lambda: F.cross_entropy(
                logits,
                labels,
                weight=weights,
                ignore_index=self.ignore_index,
                label_smoothing=self.label_smoothing,
                reduction="sum",
            ),
            labels,
            logits.shape[1],
        )
        weight = kept.sum() if weights is None else weights[labels.where(kept, 0)].where(kept, 0.0).sum()
        return LossResult(safe_mean(summed, weight), {}, weight)
