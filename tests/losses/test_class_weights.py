"""Class weights against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from dovetail.losses import (
    compute_class_weights,
)
from dovetail.losses.class_weights import balanced_weights, read_class_weights


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_class_weights_are_scikit_learns(labels: list[int]) -> None:
    """Weights of the classes that occur are scikit-learn's «balanced»; the others are 1."""
    present = np.unique(labels)
    expected = np.ones(max(labels) + 1)
    expected[present] = compute_class_weight("balanced", classes=present, y=np.array(labels))

    actual = compute_class_weights(np.array(labels))

    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_class_weights_average_to_one(labels: list[int]) -> None:
    """The mean weight over the labels is 1."""
    weights = compute_class_weights(labels, num_classes=5)

    assert float(weights[labels].mean()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    "labels, num_classes, message",
    [
        ([], None, "labels: must not be empty"),
        ([0, -1], None, "-1 is not a class"),
        ([0, 3], 3, r"3 is not a class \(0 to 2\)"),
        ([0.5], None, "must be integers, got torch.float32"),
        (
            ["a", "b"],
            None,
            r"must be integers; numpy\.unique\(labels, return_inverse=True\)\[1\] turns names into integers",
        ),
    ],
)
def test_class_weights_name_a_bad_label(labels: list[float], num_classes: int | None, message: str) -> None:
    """The error for labels that cannot be counted has the label or its type."""
    with pytest.raises(ValueError, match=message):
        compute_class_weights(labels, num_classes)


def test_weights_of_counts_and_of_labels_agree() -> None:
    """The weights computed from counts and from labels are the same."""
    torch.testing.assert_close(balanced_weights([2, 0, 1]), compute_class_weights([0, 0, 2]))
    assert read_class_weights("weight", None, [1, 2]) is None
