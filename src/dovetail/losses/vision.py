"""Losses for images: segmentation, detection, and one loss for the usual tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.losses.class_weights import ClassWeights
from dovetail.losses.classification import ClassificationLoss
from dovetail.losses.result import LossResult, safe_mean
from dovetail.losses.strategy import LossInputs, StrategyLoss
from dovetail.losses.targets import LabelGuard, at_least_float32, read_targets, target_mask
from dovetail.spec import AtLeast, Provided

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

_CORNERS: Final = 4
_EMPTY: Final = -1
#: Parameters of the focal loss: the best ones in Lin et al.
_ALPHA: Final = 0.25
_GAMMA: Final = 2.0


class VisionLoss(StrategyLoss):
    """The loss of a task on images.

    Args:
        task: ``"classification"``, one label per image; ``"segmentation"``, one label per pixel; or ``"detection"``,
            boxes and their classes, see :class:`~dovetail.losses.vision.DetectionLoss`.
        class_weights: one number ≥ 0 per class, or ``"balanced"``; not for detection, whose focal loss weighs classes
            itself.
        box_weight: factor of the box term; for detection.
        ignore_index: a label that does not count.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: there is no such task, or the task has no such option.
    """

    def __init__(
        self,
        task: Literal["classification", "detection", "segmentation"] = "classification",
        *,
        class_weights: ClassWeights = None,
        box_weight: Annotated[float, AtLeast(0)] = 1.0,
        ignore_index: int = -100,
        class_counts: Annotated[list[int] | None, Provided] = None,
    ) -> None:
        super().__init__()
        if task not in {"classification", "detection", "segmentation"}:
            raise ValueError(f"task: {task!r} is not one of classification, detection, segmentation")
        self.task = task
        self.loss: StrategyLoss
        if task == "detection":
            if class_weights is not None:
                raise ValueError("class_weights: detection takes none; its focal loss weighs the classes")
            self.loss = DetectionLoss(box_weight=box_weight, ignore_index=ignore_index)
        else:
            kind = SegmentationLoss if task == "segmentation" else ClassificationLoss
            self.loss = kind(class_weights=class_weights, ignore_index=ignore_index, class_counts=class_counts)

    def with_inputs(self, inputs: LossInputs) -> Self:
        """Return a loss with the ``class_weights`` of a call in place of its own."""
        loss = self.loss.with_inputs(inputs)
        if loss is self.loss:
            return self
        changed = type(self)(self.task)
        changed.loss = loss
        return changed

    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ValueError if shapes or types do not fit the task's loss."""
        self.loss.check_shapes(logits, labels)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the task's loss of a batch."""
        result: LossResult = self.loss(outputs, batch)
        return result


class SegmentationLoss(ClassificationLoss):
    """Cross-entropy of one label per pixel: logits ``[batch, classes, height, width]``, labels without ``classes``.

    Args and errors as for :class:`~dovetail.losses.classification.ClassificationLoss`.
    """

    _space: ClassVar[tuple[str, ...]] = ("height", "width")


class DetectionLoss(StrategyLoss):
    """Focal loss of each box's class scores plus smooth L1 of the boxes that hold an object; a mean over boxes.

    The boxes are a fixed set, such as anchors, cells of a grid, or queries that were matched before. Lin et al., «Focal
    loss for dense object detection», 2017, with α = 0.25 and γ = 2, and Girshick, «Fast R-CNN», 2015, equation 3. Lin
    et al. divide by the number of boxes that hold an object, which can be 0 for a batch; a mean over all boxes adds up
    exactly over batches.

    Args:
        box_weight: factor of the box term, ≥ 0.
        ignore_index: the class of a box that does not count.

    Raises:
        ValueError: ``box_weight`` is negative.
    """

    def __init__(self, *, box_weight: Annotated[float, AtLeast(0)] = 1.0, ignore_index: int = -100) -> None:
        super().__init__()
        if box_weight < 0:
            raise ValueError(f"box_weight: must be at least 0, got {box_weight:g}")
        self.box_weight = box_weight
        self.ignore_index = ignore_index
        self._guard = LabelGuard("DetectionLoss", ignore_index)

    def check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        """Check shapes and types.

        Args:
            logits: ``[batch, boxes, 4 + classes]``: four coordinates of the box, then a score for each class.
            labels: floating ``[batch, boxes, 5]``: four coordinates of the same kind, then the class, -1 for none.

        Raises:
            ValueError: they do not fit.
        """
        if logits.ndim != len(("batch", "boxes", "numbers")) or logits.shape[-1] <= _CORNERS:
            raise ValueError(
                f"DetectionLoss: logits have shape {list(logits.shape)}; it needs [batch, boxes, 4 + classes]"
            )
        wanted = [*logits.shape[:2], _CORNERS + 1]
        if list(labels.shape) != wanted:
            raise ValueError(
                f"DetectionLoss: logits have shape {list(logits.shape)}, so labels must have shape {wanted}, "
                f"not {list(labels.shape)}"
            )
        if not (logits.is_floating_point() and labels.is_floating_point()):
            raise ValueError(
                f"DetectionLoss: needs floating-point tensors, got logits {logits.dtype} and labels {labels.dtype}"
            )

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean loss per box, with the parts ``class`` and ``box``.

        Raises:
            ValueError: shapes or types do not fit, or the class of a box has no score.
        """
        logits, labels = outputs.logits, read_targets(batch)
        self.check_shapes(logits, labels)
        boxes, scores = at_least_float32(logits).tensor_split([_CORNERS], -1)
        true_boxes, numbers = labels.tensor_split([_CORNERS], -1)
        classes = numbers.squeeze(-1).long()
        kept = classes != self.ignore_index
        mask = target_mask(batch, classes)
        if mask is not None:
            kept = kept & mask
        objects = kept & (classes != _EMPTY)
        # Class 0 stands in for the other boxes: selecting boxes would sync with the device.
        self._guard.check(classes.where(objects, 0), scores.shape[-1])
        one_hot = (classes.unsqueeze(-1) == torch.arange(scores.shape[-1], device=scores.device)).to(scores.dtype)
        class_sum = _focal(scores, one_hot).sum(-1).where(kept, 0.0).sum()
        box_losses = F.smooth_l1_loss(boxes, true_boxes.to(boxes.dtype), reduction="none").sum(-1)
        weight = kept.sum()
        parts = {
            "class": safe_mean(class_sum, weight),
            "box": safe_mean(box_losses.where(objects, 0.0).sum(), weight),
        }
        return LossResult(parts["class"] + self.box_weight * parts["box"], parts, weight)


def _focal(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the focal loss of each binary score."""
    loss = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    wrong = torch.sigmoid(scores * (1 - 2 * targets))
    return (_ALPHA * targets + (1 - _ALPHA) * (1 - targets)) * wrong**_GAMMA * loss
