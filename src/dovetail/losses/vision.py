"""One loss for the usual tasks on images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from torch import Tensor

from dovetail.kernel.kind import Provided
from dovetail.losses.class_weights import ClassWeights
from dovetail.losses.classification import ClassificationLoss
from dovetail.losses.detection import DetectionLoss
from dovetail.losses.result import LossResult
from dovetail.losses.segmentation import SegmentationLoss
from dovetail.losses.strategy import LossInputs, StrategyLoss
from dovetail.spec.limits import AtLeast

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class VisionLoss(StrategyLoss):
    """The loss of a task on images.

    Args:
        task: ``"classification"``, one label per image; ``"segmentation"``, one per pixel; or ``"detection"``, boxes
            and their classes, see :class:`~dovetail.losses.detection.DetectionLoss`.
        class_weights: one number ≥ 0 per class, or ``"balanced"``; not for detection, whose focal loss weighs.
        box_weight: factor of the boxes' part; for detection.
        ignore_index: a label that does not count.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: there is no such task, or it has no such option.
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
            msg = f"task: {task!r} is not one of classification, detection, segmentation"
            raise ValueError(msg)
        self.task = task
        self.loss: StrategyLoss
        if task == "detection":
            if class_weights is not None:
                msg = "class_weights: detection takes none; its focal loss weighs the classes"
                raise ValueError(msg)
            self.loss = DetectionLoss(box_weight=box_weight, ignore_index=ignore_index)
        else:
            kind = SegmentationLoss if task == "segmentation" else ClassificationLoss
            self.loss = kind(class_weights=class_weights, ignore_index=ignore_index, class_counts=class_counts)

    def given(self, inputs: LossInputs) -> Self:
        """Return the loss with the ``class_weights`` of a call in place of its own."""
        loss = self.loss.given(inputs)
        if loss is self.loss:
            return self
        made = type(self)(self.task)
        made.loss = loss
        return made

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Look at shapes and types, as the task's loss does."""
        self.loss.check(logits, labels)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the task's loss of a batch."""
        result: LossResult = self.loss(outputs, batch)
        return result
