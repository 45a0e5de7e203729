"""Precision, recall and F1 of every class."""

from __future__ import annotations

from typing import Any

from dovetail.metrics.class_counts import ClassCountingMetric


class PerClass(ClassCountingMetric):
    """Precision, recall, F1 and support, a list each with one number per class. A ratio over nothing is 0.

    Its figures are ``precision_per_class``, ``recall_per_class``, ``f1_per_class`` and ``support_per_class``.

    Args:
        num_classes: number of classes; the dataset provides it, else it is read off the outputs.
        ignore_index: a label that does not count.
        class_dim: which dimension of the outputs holds the classes; by default the one that the targets lack.

    Raises:
        ValueError: ``num_classes`` is below 1.
    """

    def compute(self) -> dict[str, Any]:
        """Return the lists.

        Raises:
            ValueError: some label was none of the classes.
        """
        counts = self._class_counts()
        return {
            "precision_per_class": counts.precision().tolist(),
            "recall_per_class": counts.recall().tolist(),
            "f1_per_class": counts.f1().tolist(),
            "support_per_class": counts.true.tolist(),
        }
