"""The confusion matrix against scikit-learn, and by groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dovetail.metrics import (
    ConfusionMatrix,
    compute_confusion_matrix,
)
from dovetail.models import ModelOutput
from metric_samples import Drawn, drawn


@given(drawn)
def test_it_is_scikit_learns(data: Drawn) -> None:
    """Rows are true classes, columns predicted ones."""
    expected = np.full((data.classes, data.classes), len(data.true) if data.classes == 1 else 0)
    if len(data.true) and data.classes > 1:  # for one class, scikit-learn warns
        expected = sk.confusion_matrix(data.true, data.predicted, labels=range(data.classes))

    actual = data.feed(ConfusionMatrix(num_classes=data.classes)).compute()

    assert actual == {"confusion_matrix": expected.tolist()}


@given(drawn, st.lists(st.sampled_from([0, 1, 2.5]), min_size=18, max_size=18), st.booleans())
def test_each_value_of_a_column_has_a_matrix(data: Drawn, values: list[float], as_words: bool) -> None:
    """Each value of a column, a number or a word, has the matrix of its own samples."""
    metric, expected, place = ConfusionMatrix(by="load"), {}, 0
    for logits, labels, mask in data.batches:
        column = values[place : place + len(labels)]
        place += len(labels)
        meta: Any = [f"{value:g}" for value in column] if as_words else torch.tensor(column)
        batch: Any = {"targets": labels, "meta": {"load": meta}}
        metric.update(ModelOutput(logits), batch if mask is None else {**batch, "mask": mask})
        kept = (labels != -100) & (torch.ones_like(labels, dtype=torch.bool) if mask is None else mask)
        for value in set(column):
            rows = kept & torch.tensor([other == value for other in column]).reshape(-1, *[1] * (labels.ndim - 1))
            table = compute_confusion_matrix(logits.argmax(1)[rows], labels[rows], data.classes)
            expected[value] = expected.get(value, np.zeros((data.classes, data.classes), int)) + table
    actual = metric.compute()

    names = {f"confusion_matrix_load_{value:g}": table for value, table in sorted(expected.items())}
    assert [*actual] == ["confusion_matrix", *names]
    assert all(actual[name] == table.tolist() for name, table in names.items())


def test_edges_group_the_numbers_of_a_column() -> None:
    """A group includes its lower edge; groups come in increasing order."""
    metric = ConfusionMatrix(by="rpm", edges=[10.0, 200.0])
    meta: Any = {"rpm": torch.tensor([200.0, 10.0, 9.9, 199.9])}
    metric.update(ModelOutput(torch.eye(2)[[0, 0, 1, 0]]), {"targets": torch.tensor([0, 1, 1, 1]), "meta": meta})

    assert [*metric.compute().items()] == [
        ("confusion_matrix", [[1, 0], [2, 1]]),
        ("confusion_matrix_rpm_below_10", [[0, 0], [0, 1]]),
        ("confusion_matrix_rpm_10_to_200", [[0, 0], [2, 0]]),
        ("confusion_matrix_rpm_from_200", [[1, 0], [0, 0]]),
    ]


@pytest.mark.parametrize(
    "meta, message",
    [
        ({"speed": torch.zeros(30)}, "is not a column of the batch's meta, which has speed"),
        ({}, "which has none"),
        ({"load": torch.arange(30)}, "more than 24 values; set edges"),
    ],
)
def test_a_bad_column_is_named(meta: Any, message: str) -> None:
    """The batch must have the column, with at most 24 values."""
    metric = ConfusionMatrix(by="load")
    with pytest.raises(ValueError, match=message):
        metric.update(ModelOutput(torch.zeros(30, 2)), {"targets": torch.zeros(30, dtype=torch.int64), "meta": meta})


@pytest.mark.parametrize("options", [{"edges": [1.0]}, {"by": "a", "edges": [2.0, 1.0]}, {"by": "a", "edges": [1, 1]}])
def test_edges_must_increase_and_need_a_column(options: Any) -> None:
    """The constructor raises otherwise."""
    with pytest.raises(ValueError, match="edges"):
        ConfusionMatrix(**options)
