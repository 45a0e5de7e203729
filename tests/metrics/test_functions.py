"""Metrics as functions against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dovetail.metrics import (
    compute_accuracy,
    compute_confusion_matrix,
    compute_f1_score,
    compute_per_class_metrics,
    compute_top_k_accuracy,
)
from metric_samples import same

labels = st.integers(1, 30).flatmap(
    lambda size: st.tuples(*(st.lists(st.integers(0, 4), min_size=size, max_size=size) for _ in range(2)))
)


@given(labels, st.sampled_from([list, np.array, torch.tensor]))
def test_functions_are_scikit_learns(pair: tuple[list[int], list[int]], form: Any) -> None:
    """Lists, arrays and tensors give scikit-learn's values."""
    predicted, true = pair
    pair_of_arrays = form(predicted), form(true)

    same(compute_accuracy(*pair_of_arrays), sk.accuracy_score(true, predicted))
    for average in ("macro", "micro", "weighted"):
        same(compute_f1_score(*pair_of_arrays, average), sk.f1_score(true, predicted, average=average, zero_division=0))  # type: ignore[arg-type]
    each = sk.f1_score(true, predicted, labels=range(max(*true, *predicted) + 1), average=None, zero_division=0)
    assert (
        compute_f1_score(*pair_of_arrays, None)
        == compute_f1_score(*pair_of_arrays, "none")
        == pytest.approx(each.tolist())
    )
    matrix = compute_confusion_matrix(*pair_of_arrays, 5)
    assert isinstance(matrix, np.ndarray)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(true, predicted, labels=range(5)))
    actual = compute_per_class_metrics(*pair_of_arrays, 5)
    expected = sk.precision_recall_fscore_support(true, predicted, labels=range(5), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(actual[name], values)


def test_functions_take_scores() -> None:
    """Class scores with one more dimension are converted to labels."""
    scores, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])

    assert compute_accuracy(scores, targets) == compute_accuracy(scores.argmax(1), targets)
    assert compute_f1_score(scores, targets) == compute_f1_score(scores.argmax(1), targets)


@given(seed=st.integers(0, 999), k=st.integers(1, 6))
def test_top_k_function_is_scikit_learns(seed: int, k: int) -> None:
    """With k below the number of classes it is scikit-learn's; with all of them it is 1."""
    generator = np.random.default_rng(seed)
    scores, targets = generator.normal(size=(8, 6)), generator.integers(0, 6, size=8)

    expected = 1.0 if k == 6 else sk.top_k_accuracy_score(targets, scores, k=k, labels=range(6))
    same(compute_top_k_accuracy(scores, targets, k=k), expected)


def test_without_labels_there_is_no_accuracy() -> None:
    """Without labels, accuracy and F1 are NaN, and the confusion matrix is 0."""
    assert math.isnan(compute_accuracy([], []))
    assert math.isnan(compute_f1_score([], []))
    assert compute_f1_score([], [], None) == []
    assert compute_confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: compute_accuracy([0, 1], [0]), r"predictions have shape \[2\], targets \[1\]"),
        (lambda: compute_accuracy([0.5], [0]), "predictions must be integer labels, got torch.float32"),
        (lambda: compute_confusion_matrix([0, 2], [0, 1], 2), "label 2 is out of range for 2 classes, 0 to 1"),
        (lambda: compute_per_class_metrics([0, 0], [0, -1], 2), "label -1 is out of range for 2 classes"),
        (lambda: compute_f1_score([0, -1], [0, 0]), "label -1 is out of range"),
        (lambda: compute_f1_score([0], [0], "median"), "average: 'median' is not one of"),  # type: ignore[arg-type]
        (lambda: compute_top_k_accuracy([[0.1, 0.9]], [1]), "top_k = 5, but the outputs have only 2 classes"),
    ],
)
def test_bad_arguments_are_named(call: Any, message: str) -> None:
    """The error for arguments that do not fit has their values."""
    with pytest.raises(ValueError, match=message):
        call()
