"""Targets from a column: classes, their order, and numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dovetail.data.errors import DataError
from dovetail.data.targets import make_targets


def refuse(row, message):
    """Return the error for a row, with its number."""
    return DataError(f"row {row}: {message}")


def text(*values):
    """Return a column of text."""
    return np.array(values, object)


def test_classes_are_numbered_in_natural_order():
    """2 comes before 10, and each label keeps its text."""
    targets, names = make_targets(text("10", "2", "10"), "y", "classification", (), refuse)

    assert names == ("2", "10")
    assert targets.tolist() == [1, 0, 1]
    assert targets.dtype == torch.int64


def test_given_classes_keep_their_order():
    """Labels are their names, or their indices if no name is an integer."""
    assert make_targets(text("b", "a"), "y", "classification", ("b", "a"), refuse)[0].tolist() == [0, 1]
    assert make_targets(np.array([1.0, 0.0]), "y", "classification", ("b", "a"), refuse)[0].tolist() == [1, 0]
    assert make_targets(np.array([3, 5]), "y", "classification", ("5", "3"), refuse)[0].tolist() == [1, 0]


def test_numbers_to_predict():
    """A regression has one float32 target per row."""
    targets, names = make_targets(np.array([0.5, 2.0]), "y", "regression", (), refuse)

    assert names is None
    assert targets.tolist() == [[0.5], [2.0]]
    assert targets.dtype == torch.float32


@pytest.mark.parametrize(
    "values,task,classes,message",
    [
        (np.array([1.0, 2.5]), "classification", (), "row 1: 2.5 in 'y' is not a class label; to predict numbers set"),
        (text("a", "a"), "classification", (), "every row has the same label in 'y': 'a'"),
        (text("a", "cat"), "classification", ("a", "cta"), "row 1: label 'cat' in 'y' is not one of the classes; did"),
        (text("a"), "classification", ("a", "b", "a"), "classes names 'a' twice"),
        (np.array([0, 2]), "classification", ("a", "b"), "row 1: label 2 in 'y' is out of range: 2 classes have ind"),
        (np.array([0, -1]), "classification", ("a", "b"), "row 1: label -1 in 'y' is out of range"),
        (text("a"), "regression", (), "row 0: 'y' is text"),
        (np.array([1.0, 1e300]), "regression", (), "row 1: 1e\\+300 in 'y' is not a finite float32 number"),
        (np.array([1.0]), "regression", ("a",), "task = 'regression' has no classes"),
    ],
)
def test_what_cannot_be_a_target_is_refused(values, task, classes, message):
    """The message has the row, the value and the column."""
    with pytest.raises(DataError, match=message):
        make_targets(values, "y", task, classes, refuse)
