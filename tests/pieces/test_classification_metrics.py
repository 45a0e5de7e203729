"""A metrics tracker for a loop of your own, against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dovetail.pieces.classification_metrics import MetricsTracker
from metric_samples import Drawn, drawn, same


@given(drawn, st.sampled_from(["macro", "micro", "weighted", None]), st.booleans(), st.booleans())
def test_it_is_scikit_learns(data: Drawn, average: Any, known: bool, scores: bool) -> None:
    """Over batches of labels or scores it gives scikit-learn's values, and those of each class with ``"none"``."""
    tracker = MetricsTracker(data.classes if known else None)
    for logits, labels, mask in data.batches:
        kept = (labels != -100) & (torch.ones_like(labels, dtype=torch.bool) if mask is None else mask)
        counted = logits.movedim(1, -1)[kept]
        tracker.update(counted if scores else counted.argmax(-1), labels[kept])
    true, predicted = data.true.numpy(), data.predicted.numpy()

    actual = tracker.compute(average or "none")

    if not len(true):
        assert math.isnan(actual["accuracy"])
        return
    same(actual["accuracy"], sk.accuracy_score(true, predicted))
    classes = range(data.classes if known else max(*true, *predicted) + 1)
    options: Any = {"average": average, "zero_division": 0.0} | ({"labels": classes} if average is None else {})
    for name, reference in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert actual[name] == pytest.approx(reference(true, predicted, **options), rel=1e-12)


def test_reset_forgets_and_bad_batches_raise() -> None:
    """Shapes are checked by ``update``, labels by ``compute``."""
    tracker = MetricsTracker(2)
    tracker.update(torch.tensor([0, 5]), torch.tensor([0, 1]))

    with pytest.raises(ValueError, match="MetricsTracker: label 5 is out of range for 2 classes, 0 to 1"):
        tracker.compute()
    tracker.reset()
    assert math.isnan(tracker.compute()["f1"])
    with pytest.raises(ValueError, match=r"MetricsTracker: predictions have shape \[2\], targets \[3\]"):
        tracker.update([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="average: 'median' is not one of"):
        tracker.compute("median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes: must be at least 1, got 0"):
        MetricsTracker(0)


def test_updates_read_no_value() -> None:
    """An update works on tensors without values, so on a GPU it does not sync."""
    tracker = MetricsTracker()

    for _ in range(2):
        tracker.update(torch.zeros(4, 3, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta"))
