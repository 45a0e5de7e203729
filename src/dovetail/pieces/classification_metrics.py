"""Metrics gathered batch by batch in a loop of one's own."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from dovetail.metrics.functions import Labels, class_counts, read_labels
from dovetail.metrics.per_class import Average


class MetricsTracker:
    """Keeps the labels of every batch where they are, on the device, and reads them when asked for figures.

    Args:
        num_classes: number of classes; None for one more than the largest label met.

    Raises:
        ValueError: ``num_classes`` is below 1.
    """

    def __init__(self, num_classes: int | None = None) -> None:
        if num_classes is not None and num_classes < 1:
            msg = f"num_classes: must be at least 1, got {num_classes}"
            raise ValueError(msg)
        self.num_classes = num_classes
        self._batches: list[tuple[Tensor, Tensor]] = []

    def update(self, predictions: Labels, targets: Labels) -> None:
        """Take in one batch.

        Args:
            predictions: integer labels, or class scores ``[…, classes]``.
            targets: integer labels.

        Raises:
            ValueError: shapes do not fit, or labels are no integers.
        """
        self._batches.append(read_labels("MetricsTracker", predictions, targets))

    def compute(self, average: Average = "macro") -> dict[str, Any]:
        """Return ``accuracy``, ``precision``, ``recall`` and ``f1`` over all batches; not a number for none.

        Args:
            average: how the last three are brought together: ``"macro"``, the mean over the classes that occur;
                ``"micro"``, over all labels together; ``"weighted"``, the mean over labels; ``"none"``, a list with one
                number per class.

        Raises:
            ValueError: there is no such average, or a label is out of range.
        """
        if average not in get_args(Average):
            msg = f"average: {average!r} is not one of {', '.join(get_args(Average))}"
            raise ValueError(msg)
        empty = torch.zeros(0, dtype=torch.int64)
        predicted = torch.cat([one for one, _ in self._batches] or [empty])
        true = torch.cat([one for _, one in self._batches] or [empty])
        counts = class_counts("MetricsTracker", predicted, true, self.num_classes)
        total = int(counts.true.sum())
        figures: dict[str, Any] = {"accuracy": int(counts.right.sum()) / total if total else float("nan")}
        for name in ("precision", "recall", "f1"):
            each = getattr(counts, name)()
            figures[name] = each.tolist() if average == "none" else counts.mean(each, average)
        return figures

    def reset(self) -> None:
        """Forget every batch."""
        self._batches = []
