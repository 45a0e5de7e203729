"""The confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.metrics.class_counts import ClassCountingMetric, refuse_outside
from dovetail.metrics.reading import count_labels

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class ConfusionMatrix(ClassCountingMetric):
    """How often a class (row) was taken for another (column). Its figure is called ``confusion_matrix``.

    Args:
        num_classes: number of classes; the dataset provides it, else it is read off the outputs.
        ignore_index: a label that does not count.
        class_dim: which dimension of the outputs holds the classes; by default the one that the targets lack.

    Raises:
        ValueError: ``num_classes`` is below 1.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch.

        Raises:
            ValueError: shapes do not fit, or the outputs do not have ``num_classes`` classes.
        """
        scores = self._read(outputs, batch)
        classes, targets = scores.num_classes, scores.targets
        # A label that is no class leaves the table, so that it is counted beside it.
        inside = (targets >= 0) & (targets < classes)
        cells = (targets * classes + scores.predictions()).where(inside, -1)
        self._add(cells=count_labels(cells, scores.kept, classes * classes))

    def compute(self) -> dict[str, list[list[int]]]:
        """Return the table as one list per row.

        Raises:
            ValueError: some label was none of the classes.
        """
        classes = self._num_classes or 0
        if not self._counts:
            return {"confusion_matrix": [[0] * classes for _ in range(classes)]}
        cells = self._counts["cells"].cpu()
        refuse_outside(type(self).__name__, int(cells[-1]), classes)
        return {"confusion_matrix": cells[:-1].reshape(classes, classes).tolist()}
