"""Classification metrics in a loop of your own, against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dovetail.pieces import ClassificationMetrics
from metric_samples import Drawn, drawn, same


@given(drawn, st.sampled_from(["macro", "micro", "weighted", None]), st.booleans(), st.booleans())
def test_values_match_scikit_learn(data: Drawn, average: Any, known: bool, scores: bool) -> None:
    """Labels and scores give scikit-learn's values, and with ``"none"`` the values of each class."""
    metrics = ClassificationMetrics(data.classes if known else None)
    for logits, labels, mask in data.batches:
        kept = (labels != -100) & (torch.ones_like(labels, dtype=torch.bool) if mask is None else mask)
        counted = logits.movedim(1, -1)[kept]
        metrics.update(counted if scores else counted.argmax(-1), labels[kept])
    true, predicted = data.true.numpy(), data.predicted.numpy()

    actual = metrics.compute(average or "none")

    if not len(true):
        assert math.isnan(actual["accuracy"])
        return
    same(actual["accuracy"], sk.accuracy_score(true, predicted))
    classes = range(data.classes if known else max(*true, *predicted) + 1)
    options: Any = {"average": average, "zero_division": 0.0} | ({"labels": classes} if average is None else {})
    for name, reference in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert actual[name] == pytest.approx(reference(true, predicted, **options), rel=1e-12)


def test_invalid_batches_raise() -> None:
    """``update`` checks shapes, ``compute`` checks labels, and ``reset`` discards them."""
    metrics = ClassificationMetrics(2)
    metrics.update(torch.tensor([0, 5]), torch.tensor([0, 1]))

    with pytest.raises(ValueError, match="ClassificationMetrics: label 5 is out of range for 2 classes, 0 to 1"):
        metrics.compute()
    metrics.reset()
    assert math.isnan(metrics.compute()["f1"])
    with pytest.raises(ValueError, match=r"ClassificationMetrics: predictions have shape \[2\], targets \[3\]"):
        metrics.update([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="average: 'median' is not one of"):
        metrics.compute("median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes: must be at least 1, got 0"):
        ClassificationMetrics(0)


def test_updates_read_no_value() -> None:
    """An update works on tensors without values, so on a GPU it does not sync."""
    metrics = ClassificationMetrics()

    for _ in range(2):
        metrics.update(torch.zeros(4, 3, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta"))
