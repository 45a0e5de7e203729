"""Classification metrics in a loop of your own, collected batch by batch."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from dovetail.metrics.functions import Labels, class_counts, read_labels
from dovetail.metrics.per_class import Average


class ClassificationMetrics:
    """Collects predictions and targets batch by batch, and computes accuracy, precision, recall and F1.

    The labels stay on their device; only :meth:`compute` waits for it.

    Args:
        num_classes: the number of classes, at least 1; None for one more than the largest label.

    Raises:
        ValueError: ``num_classes`` is below 1.
    """

    def __init__(self, num_classes: int | None = None) -> None:
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes: must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self._batches: list[tuple[Tensor, Tensor]] = []

    def update(self, predictions: Labels, targets: Labels) -> None:
        """Add a batch.

        Args:
            predictions: integer labels, or class scores ``[…, classes]``.
            targets: integer labels.

        Raises:
            ValueError: shapes do not fit, or labels are not integers.
        """
        self._batches.append(read_labels("ClassificationMetrics", predictions, targets))

    def compute(self, average: Average = "macro") -> dict[str, Any]:
        """Return ``accuracy``, ``precision``, ``recall`` and ``f1`` over all batches; NaN without any label.

        Args:
            average: how to average precision, recall and F1: ``"macro"``, the mean over the classes that occur;
                ``"micro"``, over all labels together; ``"weighted"``, the mean over labels; ``"none"``, a list with one
                number per class.

        Raises:
            ValueError: there is no such average, or a label is out of range.
        """
        if average not in get_args(Average):
            raise ValueError(f"average: {average!r} is not one of {', '.join(get_args(Average))}")
        empty = torch.zeros(0, dtype=torch.int64)
        predicted = torch.cat([predictions for predictions, _ in self._batches] or [empty])
        true = torch.cat([targets for _, targets in self._batches] or [empty])
        counts = class_counts("ClassificationMetrics", predicted, true, self.num_classes)
        total = int(counts.true.sum())
        figures: dict[str, Any] = {"accuracy": int(counts.right.sum()) / total if total else float("nan")}
        for name in ("precision", "recall", "f1"):
            per_class = getattr(counts, name)()
            figures[name] = per_class.tolist() if average == "none" else counts.mean(per_class, average)
        return figures

    def reset(self) -> None:
        """Discard all batches."""
        self._batches = []
