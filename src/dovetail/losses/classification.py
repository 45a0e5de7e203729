"""Single-label classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

from dovetail.kernel.kind import Provided
from dovetail.losses.class_weights import ClassWeights, read_class_weights
from dovetail.losses.result import LossResult, mean_of
from dovetail.losses.strategy import LossInputs, StrategyLoss
from dovetail.losses.targets import LabelGuard, read_targets, target_mask
from dovetail.spec.limits import Between

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class ClassificationLoss(StrategyLoss):
    """Cross-entropy of one label per sample, a mean over class weight.

    Args:
        class_weights: one number ≥ 0 per class, or ``"balanced"``: inverse frequency in the training split.
        ignore_index: a label that does not count.
        label_smoothing: share of probability spread over all classes, 0 to 1.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: ``class_weights`` has a negative number or the wrong length, or is ``"balanced"`` and the counts are
            unknown; or ``label_smoothing`` is not between 0 and 1.
    """

    #: What a sample has one label for: nothing but itself.
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
            msg = f"label_smoothing: must be between 0 and 1, got {label_smoothing:g}"
            raise ValueError(msg)
        # Not part of the state: the config says it.
        weights = read_class_weights("class_weights", class_weights, class_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self._guard = LabelGuard(type(self).__name__, ignore_index)

    def given(self, inputs: LossInputs) -> Self:
        """Return the loss with the ``class_weights`` of a call in place of its own."""
        weights = inputs.get("class_weights")
        if weights is None:
            return super().given(inputs)
        return type(self)(class_weights=weights, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing)

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Look at shapes and types.

        Args:
            logits: ``[batch, classes]``.
            labels: integers ``[batch]``.

        Raises:
            ValueError: they do not fit.
        """
        who, wanted = type(self).__name__, ", ".join(("batch", "classes", *self._space))
        if logits.ndim != len(("batch", "classes", *self._space)) or not logits.is_floating_point():
            msg = f"{who}: logits are {logits.dtype} of shape {list(logits.shape)}; it needs scores [{wanted}]"
            raise ValueError(msg)
        shape = [*logits.shape[:1], *logits.shape[2:]]
        if labels.is_floating_point() or labels.is_complex():
            msg = f"{who}: labels are {labels.dtype}; it needs one class label each, integers of shape {shape}"
            if labels.shape == logits.shape:
                msg += "; shares of classes, as mixing makes them, are for cross_entropy, focal or label_smoothing"
            raise ValueError(msg)
        if list(labels.shape) != shape:
            msg = f"{who}: logits have shape {list(logits.shape)}, so labels must have shape {shape}, "
            msg += f"not {list(labels.shape)}"
            raise ValueError(msg)
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            msg = f"{who}: class_weights has {len(self.class_weights)} numbers for {logits.shape[1]} classes"
            raise ValueError(msg)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean loss over class weight.

        Raises:
            ValueError: shapes or types do not fit, or a label is none of the classes.
        """
        logits, labels = outputs.logits, read_targets(batch)
        self.check(logits, labels)
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
        return LossResult(mean_of(summed, weight), {}, weight)
