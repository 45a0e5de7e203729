"""Counts per class, and what follows from them: precision, recall and F1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from dovetail.metrics.base import SumMetric
from dovetail.metrics.scores import ScoreReader, Scores, count_labels
from dovetail.spec import AtLeast, Provided

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

Average = Literal["macro", "micro", "weighted", "none"]


class ClassCounts(NamedTuple):
    """Counts per class: int64 tensors ``[classes]`` on the CPU."""

    #: How often the class was both predicted and true.
    right: Tensor
    predicted: Tensor
    #: How often the class was true: its support.
    true: Tensor

    def precision(self) -> Tensor:
        """Return ``right / predicted`` per class as float64, 0 for a class that was never predicted."""
        return _ratio(self.right, self.predicted)

    def recall(self) -> Tensor:
        """Return ``right / true`` per class as float64, 0 for a class that was never true."""
        return _ratio(self.right, self.true)

    def f1(self) -> Tensor:
        """Return ``2 · right / (predicted + true)`` per class as float64, 0 for a class that was neither."""
        return _ratio(2 * self.right, self.predicted + self.true)

    def mean(self, scores: Tensor, average: Average) -> float:
        """Return precision, recall or F1 averaged over all classes.

        Args:
            scores: one per class, as :meth:`precision`, :meth:`recall` and :meth:`f1` return them.
            average: ``"macro"``, the mean over the classes that were predicted or true; ``"weighted"``, the mean over
                labels; or ``"micro"``, computed from the total counts of all classes, which is the accuracy.

        Returns:
            0 to 1; NaN if nothing was counted.
        """
        if average == "micro":
            return float(_ratio(2 * self.right.sum(), (self.predicted + self.true).sum(), empty=float("nan")))
        weights = self.true if average == "weighted" else ((self.predicted + self.true) > 0)
        return float(_ratio((scores * weights).sum(), weights.sum(), empty=float("nan")))


def _ratio(numerator: Tensor, denominator: Tensor, empty: float = 0.0) -> Tensor:
    return (numerator.double() / denominator.double()).where(denominator > 0, empty)


class ClassCountingMetric(SumMetric):
    """The base class of metrics computed from counts per class.

    Args:
        num_classes: number of classes; the dataset provides it, else the outputs do.
        ignore_index: a label that does not count.
        class_dim: the dimension of the outputs that holds the classes; by default the one that the targets lack.

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
            raise ValueError(f"num_classes: must be at least 1, got {num_classes}")
        self._num_classes = num_classes
        self._scores = ScoreReader(type(self).__name__, ignore_index, class_dim)

    def _read(self, outputs: ModelOutput, batch: Batch) -> Scores:
        scores = self._scores(outputs, batch)
        if self._num_classes is None:
            self._num_classes = scores.num_classes
        if scores.num_classes != self._num_classes:
            raise ValueError(
                f"{type(self).__name__}: the outputs have {scores.num_classes} classes, "
                f"but num_classes is {self._num_classes}"
            )
        return scores

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch.

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
            ValueError: a label was out of range.
        """
        if not self._sums:
            return ClassCounts(*(torch.zeros(self._num_classes or 0, dtype=torch.int64) for _ in ClassCounts._fields))
        right, predicted, true = (self._sums[name].cpu() for name in ClassCounts._fields)
        raise_if_outside(type(self).__name__, int(true[-1]), len(true) - 1)
        return ClassCounts(right[:-1], predicted[:-1], true[:-1])


def raise_if_outside(name: str, outside: int, num_classes: int) -> None:
    """Raise ValueError if ``outside``, the number of labels out of range, is not 0."""
    if outside:
        raise ValueError(f"{name}: {outside} labels are out of range for {num_classes} classes, 0 to {num_classes - 1}")


class F1(ClassCountingMetric):
    """The harmonic mean of precision and recall, 0 to 1; NaN if no label counts.

    Its value is named ``f1`` for the macro average, else ``f1_micro``, ``f1_weighted`` or ``f1_per_class``.

    Args:
        average: ``"macro"``, the mean over the classes that occurred; ``"micro"``, over all labels together, which is
            the accuracy; ``"weighted"``, the mean over labels; or ``"none"``, one number per class.
        num_classes: number of classes; the dataset provides it, else the outputs do.
        ignore_index: a label that does not count.
        class_dim: the dimension of the outputs that holds the classes; by default the one that the targets lack.

    Raises:
        ValueError: there is no such average, or ``num_classes`` is below 1.
    """

    def __init__(
        self,
        *,
        average: Average = "macro",
        num_classes: Annotated[int | None, Provided, AtLeast(1)] = None,
        ignore_index: int = -100,
        class_dim: int | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes, ignore_index=ignore_index, class_dim=class_dim)
        if average not in get_args(Average):
            raise ValueError(f"average: {average!r} is not one of {', '.join(get_args(Average))}")
        self._average = average

    def compute(self) -> dict[str, Any]:
        """Return the score, or a list of one score per class.

        Raises:
            ValueError: a label was out of range.
        """
        counts = self._class_counts()
        if self._average == "none":
            return {"f1_per_class": counts.f1().tolist()}
        name = "f1" if self._average == "macro" else f"f1_{self._average}"
        return {name: counts.mean(counts.f1(), self._average)}


class PerClass(ClassCountingMetric):
    """Precision, recall, F1 and support of each class, as lists. A ratio with denominator 0 is 0.

    Its values are ``precision_per_class``, ``recall_per_class``, ``f1_per_class`` and ``support_per_class``.

    Args:
        num_classes: number of classes; the dataset provides it, else the outputs do.
        ignore_index: a label that does not count.
        class_dim: the dimension of the outputs that holds the classes; by default the one that the targets lack.

    Raises:
        ValueError: ``num_classes`` is below 1.
    """

    def compute(self) -> dict[str, Any]:
        """Return the four lists.

        Raises:
            ValueError: a label was out of range.
        """
        counts = self._class_counts()
        return {
            "precision_per_class": counts.precision().tolist(),
            "recall_per_class": counts.recall().tolist(),
            "f1_per_class": counts.f1().tolist(),
            "support_per_class": counts.true.tolist(),
        }
