"""Per class: how often it was right, predicted, and true. Precision, recall and F1 follow from these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from dovetail.kernel.kind import Provided
from dovetail.metrics.counting import CountingMetric
from dovetail.metrics.reading import ScoreReader, Scores, count_labels
from dovetail.spec.limits import AtLeast

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

Average = Literal["macro", "micro", "weighted", "none"]


class ClassCounts(NamedTuple):
    """int64 counts per class, each of shape ``[classes]``, on the CPU."""

    #: How often the class was predicted and true.
    right: Tensor
    predicted: Tensor
    #: How often it was true: its support.
    true: Tensor

    def precision(self) -> Tensor:
        """Return ``right / predicted`` per class as float64, 0 where it was never predicted."""
        return _ratio(self.right, self.predicted)

    def recall(self) -> Tensor:
        """Return ``right / true`` per class as float64, 0 where it was never true."""
        return _ratio(self.right, self.true)

    def f1(self) -> Tensor:
        """Return ``2 · right / (predicted + true)`` per class as float64, 0 where it was neither."""
        return _ratio(2 * self.right, self.predicted + self.true)

    def mean(self, scores: Tensor, average: Average) -> float:
        """Return precision, recall or F1 over all classes.

        Args:
            scores: one per class, as :meth:`precision`, :meth:`recall` and :meth:`f1` give them.
            average: ``"macro"``, the mean over the classes that were predicted or true; ``"weighted"``, the mean over
                labels; or ``"micro"``, of the counts of all classes together, which is the accuracy.

        Returns:
            0 to 1; not a number where nothing was counted.
        """
        if average == "micro":
            return float(_ratio(2 * self.right.sum(), (self.predicted + self.true).sum(), empty=float("nan")))
        weights = self.true if average == "weighted" else ((self.predicted + self.true) > 0)
        return float(_ratio((scores * weights).sum(), weights.sum(), empty=float("nan")))


def _ratio(above: Tensor, below: Tensor, empty: float = 0.0) -> Tensor:
    return (above.double() / below.double()).where(below > 0, empty)


class ClassCountingMetric(CountingMetric):
    """A metric made of counts per class.

    Args:
        num_classes: number of classes; the dataset provides it, else it is read off the outputs.
        ignore_index: a label that does not count.
        class_dim: which dimension of the outputs holds the classes; by default the one that the targets lack.

    Raises:
        ValueError: ``num_classes`` is below 1.
    """

    def __init__(
        self,
        *,
        num_classes: Annotated[int | None, Provided, AtLeast(1)] = None,
        ignore_index: int = -100,
        class_dim: int | None = None,
    ) -> None:
        super().__init__()
        if num_classes is not None and num_classes < 1:
            msg = f"num_classes: must be at least 1, got {num_classes}"
            raise ValueError(msg)
        self._num_classes = num_classes
        self._scores = ScoreReader(type(self).__name__, ignore_index, class_dim)

    def _read(self, outputs: ModelOutput, batch: Batch) -> Scores:
        scores = self._scores(outputs, batch)
        if self._num_classes is None:
            self._num_classes = scores.num_classes
        if scores.num_classes != self._num_classes:
            who = type(self).__name__
            msg = f"{who}: the outputs tell {scores.num_classes} classes apart, but num_classes is {self._num_classes}"
            raise ValueError(msg)
        return scores

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch.

        Raises:
            ValueError: shapes do not fit, or the outputs do not have ``num_classes`` classes.
        """
        scores = self._read(outputs, batch)
        predictions, targets, kept, classes = scores.predictions(), scores.targets, scores.kept, scores.num_classes
        self._add(
            right=count_labels(targets, kept & (predictions == targets), classes),
            predicted=count_labels(predictions, kept, classes),
            true=count_labels(targets, kept, classes),
        )

    def _class_counts(self) -> ClassCounts:
        """Return the counts.

        Raises:
            ValueError: some label was none of the classes.
        """
        if not self._counts:
            return ClassCounts(*(torch.zeros(self._num_classes or 0, dtype=torch.int64) for _ in ClassCounts._fields))
        right, predicted, true = (self._counts[name].cpu() for name in ClassCounts._fields)
        refuse_outside(type(self).__name__, int(true[-1]), len(true) - 1)
        return ClassCounts(right[:-1], predicted[:-1], true[:-1])


def refuse_outside(who: str, outside: int, num_classes: int) -> None:
    """Raise ValueError if some labels were none of the classes."""
    if outside:
        msg = f"{who}: {outside} labels are out of range for {num_classes} classes, 0 to {num_classes - 1}"
        raise ValueError(msg)
