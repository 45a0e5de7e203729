"""Checks that hold for several metrics: another oracle, state, device syncs, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dovetail.metrics import (
    F1,
    Accuracy,
    ConfusionMatrix,
    PerClass,
    SumMetric,
)
from dovetail.metrics.per_class import ClassCountingMetric
from dovetail.models import ModelOutput
from metric_samples import Drawn, drawn, update

METRICS = [Accuracy, F1, PerClass, ConfusionMatrix]


@given(data=drawn.filter(lambda data: data.classes > 1 and len(data.true) > 0))
def test_values_are_torchmetrics(data: Drawn) -> None:
    """Torchmetrics agrees, up to the single precision that it computes in."""
    options: Any = {"num_classes": data.classes}
    predicted, true = data.predicted, data.true

    for average in ("macro", "micro", "weighted"):
        (actual,) = data.feed(F1(average=average)).compute().values()  # type: ignore[arg-type]
        assert actual == pytest.approx(
            float(tm.multiclass_f1_score(predicted, true, average=average, **options)), rel=1e-5
        )
    accuracy = float(tm.multiclass_accuracy(predicted, true, average="micro", **options))
    assert data.feed(Accuracy()).compute()["accuracy"] == pytest.approx(accuracy, rel=1e-5)
    table = tm.multiclass_confusion_matrix(predicted, true, **options).tolist()
    assert data.feed(ConfusionMatrix()).compute()["confusion_matrix"] == table


@pytest.mark.parametrize("metric", [Accuracy, F1, PerClass, ConfusionMatrix])
def test_a_binary_score_has_two_classes(metric: type[SumMetric]) -> None:
    """One score per sample, above 0 for class 1, gives the values of two classes."""
    scores, targets = torch.tensor([1.0, -1.0, 2.0, -0.5]), torch.tensor([1, 0, 0, 1])

    assert update(metric(), scores, targets) == update(metric(), torch.stack([-scores, scores], dim=1), targets)


@given(drawn, st.sampled_from(METRICS), st.integers(0, 3))
def test_state_continues_in_a_new_metric(data: Drawn, metric: type[SumMetric], cut: int) -> None:
    """Saved between any two batches and loaded into a new metric, the state gives the same values."""
    options = {"num_classes": data.classes} if issubclass(metric, ClassCountingMetric) else {}
    whole, batches = data.feed(metric(**options)).compute(), data.batches
    first, second = metric(**options), metric(**options)

    data.batches = batches[:cut]
    saved = data.feed(first).state_dict()
    second.load_state_dict(saved)
    before = {name: value.clone() for name, value in saved.items()}
    data.batches = batches[cut:]

    np.testing.assert_equal(data.feed(second).compute(), whole)
    assert all(torch.equal(saved[name], before[name]) for name in saved)


@given(drawn, st.sampled_from(METRICS), st.integers(0, 3))
def test_states_of_parts_merge_to_the_whole(data: Drawn, metric: type[SumMetric], cut: int) -> None:
    """Metrics that each saw some of the batches merge to the values of all batches, and snapshots do not change."""
    options = {"num_classes": data.classes} if issubclass(metric, ClassCountingMetric) else {}
    whole, batches = data.feed(metric(**options)).compute(), data.batches
    first, second, merged = (metric(**options) for _ in range(3))
    data.batches = batches[:cut]
    data.feed(first)
    snapshot, values = first.snapshot(), first.compute()
    data.batches = batches[cut:]

    merged.merge([first.state_dict(), data.feed(second).state_dict()])
    data.feed(first)

    np.testing.assert_equal(merged.compute(), whole)
    np.testing.assert_equal(snapshot.compute(), values)


@pytest.mark.parametrize("metric", METRICS)
def test_reset_forgets_earlier_batches(metric: type[SumMetric]) -> None:
    """After a reset, the values are those of the batches after it."""
    used = metric()
    update(used, torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    used.reset()
    logits, targets = torch.randn(5, 3), torch.tensor([2, 1, 0, 1, 1])

    np.testing.assert_equal(update(used, logits, targets), update(metric(), logits, targets))
    assert metric().state_dict() == {}


@pytest.mark.parametrize("metric", METRICS)
def test_updates_read_no_value(metric: type[SumMetric]) -> None:
    """An update works on tensors without values, so on a GPU it does not sync."""
    empty = metric()
    batch: Any = {
        "targets": torch.zeros(4, dtype=torch.int64, device="meta"),
        "mask": torch.ones(4, dtype=torch.bool, device="meta"),
    }

    for _ in range(2):
        empty.update(ModelOutput(torch.zeros(4, 3, device="meta")), batch)

    assert all(state.is_meta for state in empty.state_dict().values())


@pytest.mark.parametrize(
    "metric, logits, targets, message",
    [
        (Accuracy(), (4, 3), torch.zeros(4), r"accuracy: needs class labels, but targets are torch.float32"),
        (Accuracy(), (4, 3), torch.zeros(5, dtype=torch.int64), r"outputs have shape \[4, 3\] and targets \[5\]"),
        (Accuracy(class_dim=1), (2, 5, 3), torch.zeros(2, 5, dtype=torch.int64), "one more dimension, for the classes"),
        (
            Accuracy(top_k=4),
            (4, 3),
            torch.zeros(4, dtype=torch.int64),
            "top_k = 4, but the outputs have only 3 classes",
        ),
        (F1(num_classes=5), (4, 3), torch.zeros(4, dtype=torch.int64), "F1: the outputs have 3 classes, but num"),
        (F1(), (2, 3), torch.tensor([0, 3]), "F1: 1 labels are out of range for 3 classes, 0 to 2"),
        (PerClass(), (2, 3), torch.tensor([-1, -2]), "PerClass: 2 labels are out of range"),
        (
            ConfusionMatrix(),
            (3, 3),
            torch.tensor([0, 3, 9]),
            "ConfusionMatrix: 2 labels are out of range for 3 classes",
        ),
    ],
)
def test_batches_that_do_not_fit_raise(
    metric: SumMetric, logits: tuple[int, ...], targets: Tensor, message: str
) -> None:
    """The error for shapes, types and labels that do not fit has their values."""
    with pytest.raises(ValueError, match=message):
        update(metric, torch.randn(logits), targets)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: Accuracy(top_k=0), "top_k: must be at least 1, got 0"),
        (lambda: F1(average="median"), "average: 'median' is not one of macro, micro, weighted, none"),  # type: ignore[arg-type]
        (lambda: ConfusionMatrix(num_classes=0), "num_classes: must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(build: Any, message: str) -> None:
    """The constructor's error names the option."""
    with pytest.raises(ValueError, match=message):
        build()
