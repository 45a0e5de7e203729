"""Object detection on a fixed set of boxes, such as anchors, cells of a grid, or queries that were matched before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.losses.result import LossResult, mean_of
from dovetail.losses.strategy import StrategyLoss
from dovetail.losses.targets import LabelGuard, read_targets, target_mask, wide
from dovetail.spec.limits import AtLeast

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

_CORNERS: Final = 4
_NOTHING: Final = -1
#: Of the focal loss, as Lin et al. found best.
_ALPHA: Final = 0.25
_GAMMA: Final = 2.0


class DetectionLoss(StrategyLoss):
    """Focal loss of each box's class scores, and smooth L1 of the boxes that hold something; a mean over boxes.

    Lin et al., «Focal loss for dense object detection», 2017, with α = 0.25 and γ = 2, and Girshick, «Fast R-CNN»,
    2015, equation 3. Lin et al. divide by the boxes that hold something, which in a batch may be none; a mean over all
    boxes adds up exactly.

    Args:
        box_weight: factor of the boxes' part, ≥ 0.
        ignore_index: the class of a box that does not count.

    Raises:
        ValueError: ``box_weight`` is negative.
    """

    def __init__(self, *, box_weight: Annotated[float, AtLeast(0)] = 1.0, ignore_index: int = -100) -> None:
        super().__init__()
        if box_weight < 0:
            msg = f"box_weight: must be at least 0, got {box_weight:g}"
            raise ValueError(msg)
        self.box_weight = box_weight
        self.ignore_index = ignore_index
        self._guard = LabelGuard("DetectionLoss", ignore_index)

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Look at shapes and types.

        Args:
            logits: ``[batch, boxes, 4 + classes]``: four numbers that place the box, then a score for each class.
            labels: floating ``[batch, boxes, 5]``: four numbers in the same terms, then the class, -1 for none.

        Raises:
            ValueError: they do not fit.
        """
        if logits.ndim != len(("batch", "boxes", "numbers")) or logits.shape[-1] <= _CORNERS:
            msg = f"DetectionLoss: logits have shape {list(logits.shape)}; it needs [batch, boxes, 4 + classes]"
            raise ValueError(msg)
        wanted = [*logits.shape[:2], _CORNERS + 1]
        if list(labels.shape) != wanted:
            msg = f"DetectionLoss: logits have shape {list(logits.shape)}, so labels must have shape {wanted}, "
            msg += f"not {list(labels.shape)}"
            raise ValueError(msg)
        if not (logits.is_floating_point() and labels.is_floating_point()):
            msg = f"DetectionLoss: needs floating numbers, got logits {logits.dtype} and labels {labels.dtype}"
            raise ValueError(msg)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean loss per box, with the parts ``class`` and ``box``.

        Raises:
            ValueError: shapes or types do not fit, or a box holds a class that has no score.
        """
        logits, labels = outputs.logits, read_targets(batch)
        self.check(logits, labels)
        (boxes, scores), (places, numbers) = (
            wide(logits).tensor_split([_CORNERS], -1),
            labels.tensor_split([_CORNERS], -1),
        )
        classes = numbers.squeeze(-1).long()
        kept = classes != self.ignore_index
        mask = target_mask(batch, classes)
        if mask is not None:
            kept = kept & mask
        holds = kept & (classes != _NOTHING)
        # Class 0 for the others, as picking these would wait for the device.
        self._guard.look(classes.where(holds, 0), scores.shape[-1])
        wanted = (classes.unsqueeze(-1) == torch.arange(scores.shape[-1], device=scores.device)).to(scores.dtype)
        by_class = _focal(scores, wanted).sum(-1).where(kept, 0.0).sum()
        by_box = F.smooth_l1_loss(boxes, places.to(boxes.dtype), reduction="none").sum(-1).where(holds, 0.0).sum()
        weight = kept.sum()
        parts = {"class": mean_of(by_class, weight), "box": mean_of(by_box, weight)}
        return LossResult(parts["class"] + self.box_weight * parts["box"], parts, weight)


def _focal(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the focal loss of each yes-or-no score."""
    loss = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    wrong = torch.sigmoid(scores * (1 - 2 * wanted))
    return (_ALPHA * wanted + (1 - _ALPHA) * (1 - wanted)) * wrong**_GAMMA * loss
