"""Metrics of arrays, as functions.

Predictions are labels of the targets' shape, or class scores with one more dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from dovetail.losses.targets import check_labels
from dovetail.metrics.accuracy import Accuracy
from dovetail.metrics.per_class import Average, ClassCounts
from dovetail.metrics.scores import count_labels
from dovetail.models.output import ModelOutput

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Anything that ``torch.as_tensor`` converts.
Labels = Tensor | np.ndarray[Any, Any] | Sequence[Any]


def compute_accuracy(predictions: Labels, targets: Labels) -> float:
    """Return the fraction of predictions that are right, 0 to 1; NaN if there are none.

    Args:
        predictions: integer labels, or class scores ``[…, classes]``.
        targets: integer labels.

    Raises:
        ValueError: shapes do not fit, or labels are not integers.
    """
    predicted, true = read_labels("compute_accuracy", predictions, targets)
    _num_classes("compute_accuracy", predicted, true, None)
    return int((predicted == true).sum()) / true.numel() if true.numel() else float("nan")


def compute_f1_score(predictions: Labels, targets: Labels, average: Average | None = "macro") -> float | list[float]:
    """Return the F1 score, 0 to 1; NaN if there are no labels.

    Args:
        predictions: integer labels ≥ 0, or class scores ``[…, classes]``.
        targets: integer labels ≥ 0.
        average: ``"macro"``, the mean over the classes that occur; ``"micro"``, over all labels together;
            ``"weighted"``, the mean over labels; ``"none"`` or None, a list with one score per class, up to the largest
            label.

    Raises:
        ValueError: shapes do not fit, a label is negative or not an integer, or there is no such average.
    """
    average = average or "none"
    if average not in get_args(Average):
        raise ValueError(f"average: {average!r} is not one of {', '.join(get_args(Average))}")
    counts = class_counts("compute_f1_score", *read_labels("compute_f1_score", predictions, targets))
    each = counts.f1()
    return each.tolist() if average == "none" else counts.mean(each, average)


def compute_confusion_matrix(predictions: Labels, targets: Labels, num_classes: int) -> NDArray[np.int64]:
    """Return how often each class (row) was predicted as each class (column): ``[num_classes, num_classes]``.

    Args:
        predictions: integer labels, or class scores ``[…, classes]``.
        targets: integer labels.
        num_classes: number of classes; every label must be below.

    Raises:
        ValueError: shapes do not fit, or a label is out of range or not an integer.
    """
    predicted, true = read_labels("compute_confusion_matrix", predictions, targets)
    _num_classes("compute_confusion_matrix", predicted, true, num_classes)
    cells = count_labels(true * num_classes + predicted, torch.ones_like(true, dtype=torch.bool), num_classes**2)
    return np.asarray(cells[:-1].reshape(num_classes, num_classes).cpu().numpy())


def compute_top_k_accuracy(logits: Labels, targets: Labels, k: int = 5) -> float:
    """Return the fraction of labels whose class is among the ``k`` highest scores, 0 to 1; NaN if there are none.

    Args:
        logits: class scores ``[batch, classes]``.
        targets: integer labels ``[batch]``.
        k: how many of the highest scores count, 1 to the number of classes.

    Raises:
        ValueError: shapes do not fit, or ``k`` is out of range.
    """
    metric = Accuracy(top_k=k, class_dim=-1)
    metric.update(ModelOutput(torch.as_tensor(logits)), {"targets": torch.as_tensor(targets)})
    (accuracy,) = metric.compute().values()
    return accuracy


def compute_per_class_metrics(
    predictions: Labels, targets: Labels, num_classes: int
) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """Return ``precision``, ``recall``, ``f1`` and ``support`` of each class; a ratio with denominator 0 is 0.

    Args:
        predictions: integer labels, or class scores ``[…, classes]``.
        targets: integer labels.
        num_classes: number of classes; every label must be below.

    Raises:
        ValueError: shapes do not fit, or a label is out of range or not an integer.
    """
    name = "compute_per_class_metrics"
    counts = class_counts(name, *read_labels(name, predictions, targets), num_classes)
    return {
        "precision": counts.precision().numpy(),
        "recall": counts.recall().numpy(),
        "f1": counts.f1().numpy(),
        "support": counts.true.numpy(),
    }


class LabelPairs(NamedTuple):
    """Predicted and true labels, flat int64."""

    predicted: Tensor
    true: Tensor


def read_labels(name: str, predictions: Labels, targets: Labels) -> LabelPairs:
    """Return predicted and true labels as flat int64. Reads no value, so it does not sync.

    Args:
        name: the caller, for messages.
        predictions: integer labels, or class scores ``[…, classes]``.
        targets: integer labels.

    Raises:
        ValueError: shapes do not fit, or labels are not integers.
    """
    predicted, true = torch.as_tensor(predictions), torch.as_tensor(targets)
    if predicted.shape[:-1] == true.shape and predicted.ndim > true.ndim:
        predicted = predicted.argmax(dim=-1) if predicted.numel() else true
    if predicted.shape != true.shape:
        raise ValueError(f"{name}: predictions have shape {list(predicted.shape)}, targets {list(true.shape)}")
    for parameter, labels in (("predictions", predicted), ("targets", true)):
        if labels.numel() and (labels.is_floating_point() or labels.is_complex()):  # torch makes [] a float tensor
            raise ValueError(f"{name}: {parameter} must be integer labels, got {labels.dtype}")
    return LabelPairs(predicted.flatten().long(), true.flatten().long())


def class_counts(name: str, predicted: Tensor, true: Tensor, num_classes: int | None = None) -> ClassCounts:
    """Return the counts of each class.

    Args:
        name: the caller, for messages.
        predicted: flat integer labels.
        true: flat integer labels, as many.
        num_classes: number of classes; by default the largest label + 1.

    Raises:
        ValueError: a label is out of range.
    """
    classes, everything = _num_classes(name, predicted, true, num_classes), torch.ones_like(true, dtype=torch.bool)
    counts = (
        count_labels(true, predicted == true, classes),
        count_labels(predicted, everything, classes),
        count_labels(true, everything, classes),
    )
    return ClassCounts(*(count[:-1].cpu() for count in counts))


def _num_classes(name: str, predicted: Tensor, true: Tensor, num_classes: int | None) -> int:
    """Return the number of classes, after checking that every label is in range."""
    both = torch.stack([predicted, true])
    classes = num_classes if num_classes is not None else (int(both.max()) + 1 if both.numel() else 0)
    check_labels(name, both, classes)
    return classes
