"""F1, precision, recall and support against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dovetail.metrics import (
    F1,
    PerClass,
)
from metric_samples import Drawn, drawn, same


@given(drawn, st.sampled_from(["macro", "micro", "weighted"]))
def test_f1_is_scikit_learns(data: Drawn, average: Any) -> None:
    """Each average is scikit-learn's; macro is over the classes that occur in labels or predictions."""
    expected = math.nan
    if len(data.true):
        expected = sk.f1_score(data.true, data.predicted, average=average, zero_division=0)

    (actual,) = data.feed(F1(average=average)).compute().values()

    same(actual, expected)


@given(drawn)
def test_per_class_values_are_scikit_learns(data: Drawn) -> None:
    """Precision, recall, F1 and support of each class; a ratio with denominator 0 is 0."""
    actual = data.feed(PerClass(num_classes=data.classes)).compute()
    scores = data.feed(F1(average="none", num_classes=data.classes)).compute()
    if len(data.true):
        expected = sk.precision_recall_fscore_support(
            data.true, data.predicted, labels=range(data.classes), zero_division=0
        )
    else:
        expected = np.zeros((4, data.classes))

    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert actual[f"{name}_per_class"] == pytest.approx(values.tolist())
    assert scores["f1_per_class"] == actual["f1_per_class"]
