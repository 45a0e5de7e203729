"""Semantic segmentation: one label per pixel."""

from __future__ import annotations

from typing import ClassVar

from dovetail.losses.classification import ClassificationLoss


class SegmentationLoss(ClassificationLoss):
    """Cross-entropy of one label per pixel: logits ``[batch, classes, height, width]``, labels without ``classes``.

    Args and errors as for :class:`~dovetail.losses.classification.ClassificationLoss`.
    """

    _space: ClassVar[tuple[str, ...]] = ("height", "width")
