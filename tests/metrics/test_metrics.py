"""Metrics against scikit-learn and torchmetrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor

from dovetail.metrics.accuracy import Accuracy
from dovetail.metrics.class_counts import ClassCountingMetric
from dovetail.metrics.confusion_matrix import ConfusionMatrix
from dovetail.metrics.counting import CountingMetric
from dovetail.metrics.f1 import F1
from dovetail.metrics.functions import (
    compute_accuracy,
    compute_confusion_matrix,
    compute_f1_score,
    compute_per_class_metrics,
    compute_top_k_accuracy,
)
from dovetail.metrics.per_class import PerClass
from dovetail.models.output import ModelOutput
from dovetail.pieces.classification_metrics import MetricsTracker


class Drawn:
    """Batches of logits, labels and perhaps a mask; and, flat, what of them counts."""

    def __init__(
        self, seed: int, sizes: list[int], space: tuple[int, ...], classes: int, *, hidden: float, masked: bool
    ):
        generator = torch.Generator().manual_seed(seed)
        self.classes = classes
        self.batches: list[tuple[Tensor, Tensor, Tensor | None]] = []
        true, scores = [], []
        for size in sizes:
            logits = torch.randn(size, classes, *space, generator=generator)
            labels = torch.randint(0, classes, (size, *space), generator=generator)
            kept = torch.rand(labels.shape, generator=generator) >= hidden
            mask = torch.rand(labels.shape, generator=generator) < 0.7 if masked else None
            labels = labels.where(kept, -100)
            kept = kept if mask is None else kept & mask
            self.batches.append((logits, labels, mask))
            true.append(labels[kept])
            scores.append(logits.movedim(1, -1)[kept])
        self.true = torch.cat(true) if true else torch.zeros(0, dtype=torch.int64)
        self.scores = torch.cat(scores) if scores else torch.zeros(0, classes)
        self.predicted = self.scores.argmax(-1) if len(self.scores) else self.true

    def feed(self, metric: CountingMetric) -> CountingMetric:
        """Update a metric with every batch."""
        for logits, labels, mask in self.batches:
            batch: Any = {"targets": labels} if mask is None else {"targets": labels, "mask": mask}
            metric.update(ModelOutput(logits), batch)
        return metric


drawn = st.builds(
    Drawn,
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(0, 6), max_size=3),
    space=st.sampled_from([(), (7,), (2, 7)]),
    classes=st.integers(1, 5),
    hidden=st.sampled_from([0.0, 0.4, 1.0]),
    masked=st.booleans(),
)


def same(found: float, expected: float) -> None:
    """Assert equality to rounding, NaN being equal to itself."""
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)


# --- against scikit-learn ---------------------------------------------------------------------------------------


@given(drawn)
def test_accuracy_is_scikit_learns(data: Drawn) -> None:
    """Accuracy over ragged batches, with labels ignored and masked, is scikit-learn's of what is left."""
    expected = sk.accuracy_score(data.true, data.predicted) if len(data.true) else math.nan

    same(data.feed(Accuracy()).compute()["accuracy"], expected)


@given(drawn, st.integers(1, 5))
def test_top_k_accuracy_is_scikit_learns(data: Drawn, k: int) -> None:
    """Among the top k means what it means to scikit-learn."""
    k = min(k, data.classes)
    found = data.feed(Accuracy(top_k=k)).compute()
    best = data.scores.numpy().argsort(axis=1)[:, ::-1][:, :k]
    expected = float((best == data.true.numpy()[:, None]).any(axis=1).mean()) if len(data.true) else math.nan
    if len(data.true) and data.classes > 2 and k < data.classes:
        same(sk.top_k_accuracy_score(data.true, data.scores, k=k, labels=range(data.classes)), expected)

    same(found["accuracy" if k == 1 else f"top{k}_accuracy"], expected)


@given(drawn, st.sampled_from(["macro", "micro", "weighted"]))
def test_f1_is_scikit_learns(data: Drawn, average: Any) -> None:
    """Each average is scikit-learn's; macro is over the classes that occur in labels or predictions."""
    expected = math.nan
    if len(data.true):
        expected = sk.f1_score(data.true, data.predicted, average=average, zero_division=0)

    (found,) = data.feed(F1(average=average)).compute().values()

    same(found, expected)


@given(drawn)
def test_per_class_figures_are_scikit_learns(data: Drawn) -> None:
    """Precision, recall, F1 and support of every class, 0 where there is nothing to divide by."""
    found = data.feed(PerClass(num_classes=data.classes)).compute()
    scores = data.feed(F1(average="none", num_classes=data.classes)).compute()
    if len(data.true):
        expected = sk.precision_recall_fscore_support(
            data.true, data.predicted, labels=range(data.classes), zero_division=0
        )
    else:
        expected = np.zeros((4, data.classes))

    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert found[f"{name}_per_class"] == pytest.approx(values.tolist())
    assert scores["f1_per_class"] == found["f1_per_class"]


@given(drawn)
def test_confusion_matrix_is_scikit_learns(data: Drawn) -> None:
    """Rows are true classes, columns predicted ones."""
    expected = np.full((data.classes, data.classes), len(data.true) if data.classes == 1 else 0)
    if len(data.true) and data.classes > 1:  # of one class, scikit-learn only warns
        expected = sk.confusion_matrix(data.true, data.predicted, labels=range(data.classes))

    found = data.feed(ConfusionMatrix(num_classes=data.classes)).compute()

    assert found == {"confusion_matrix": expected.tolist()}


# --- against torchmetrics ---------------------------------------------------------------------------------------


@given(data=drawn.filter(lambda one: one.classes > 1 and len(one.true) > 0))
def test_figures_are_torchmetrics(data: Drawn) -> None:
    """The other oracle agrees, to the single precision that it computes in."""
    options: Any = {"num_classes": data.classes}
    predicted, true = data.predicted, data.true

    for average in ("macro", "micro", "weighted"):
        (found,) = data.feed(F1(average=average)).compute().values()  # type: ignore[arg-type]
        assert found == pytest.approx(
            float(tm.multiclass_f1_score(predicted, true, average=average, **options)), rel=1e-5
        )
    accuracy = float(tm.multiclass_accuracy(predicted, true, average="micro", **options))
    assert data.feed(Accuracy()).compute()["accuracy"] == pytest.approx(accuracy, rel=1e-5)
    table = tm.multiclass_confusion_matrix(predicted, true, **options).tolist()
    assert data.feed(ConfusionMatrix()).compute()["confusion_matrix"] == table


# --- forms of outputs -------------------------------------------------------------------------------------------


def update(metric: CountingMetric, logits: Tensor, targets: Tensor, **more: Tensor) -> dict[str, Any]:
    """Return the figures of one batch."""
    batch: Any = {"targets": targets, **more}
    metric.update(ModelOutput(logits), batch)
    return metric.compute()


def test_classes_may_be_on_the_last_dimension() -> None:
    """A language model's [batch, time, classes] is read as cross-entropy's [batch, classes, time] is."""
    logits, targets = torch.randn(2, 5, 3), torch.randint(0, 3, (2, 5))

    assert update(Accuracy(), logits, targets) == update(Accuracy(), logits.transpose(1, 2), targets)


def test_classes_on_either_dimension_must_be_said() -> None:
    """Where time and classes are as many, the shapes do not tell, and nobody guesses."""
    logits, targets = torch.randn(2, 3, 3), torch.randint(0, 3, (2, 3))

    with pytest.raises(ValueError, match=r"accuracy: outputs of shape \[2, 3, 3\] could have their classes on"):
        update(Accuracy(), logits, targets)
    assert update(Accuracy(class_dim=-1), logits, targets) == update(
        Accuracy(class_dim=1), logits.transpose(1, 2), targets
    )


def test_where_the_classes_are_is_remembered() -> None:
    """A batch whose texts are as long as there are classes is read as those before it, also after a reset."""
    metric, reference = Accuracy(), Accuracy(class_dim=-1)
    for time in (5, 3, 2):
        logits, targets = torch.randn(2, time, 3), torch.randint(0, 3, (2, time))
        assert update(metric, logits, targets) == update(reference, logits, targets)
        metric.reset()
        reference.reset()


def test_a_language_model_is_right_about_the_next_token() -> None:
    """With shift, position t is compared with target t + 1, also in the mask."""
    tokens = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    sure = torch.nn.functional.one_hot(tokens.roll(-1, dims=1), 5).float()
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    metric = Accuracy(shift=True)

    assert update(metric, sure, tokens, mask=mask) == {"accuracy": 1.0}
    assert metric.state_dict()["right_and_total"].tolist() == [4, 4]


@pytest.mark.parametrize("metric", [Accuracy, F1, PerClass, ConfusionMatrix])
def test_one_score_says_yes_or_no(metric: type[CountingMetric]) -> None:
    """A score per sample, above 0 for class 1, gives the figures of two classes."""
    scores, targets = torch.tensor([1.0, -1.0, 2.0, -0.5]), torch.tensor([1, 0, 0, 1])

    assert update(metric(), scores, targets) == update(metric(), torch.stack([-scores, scores], dim=1), targets)


def test_a_mask_of_the_inputs_leaves_labels_alone() -> None:
    """A mask over time says nothing about one label per sample."""
    metric = Accuracy()
    update(metric, torch.randn(3, 2), torch.tensor([0, 1, 0]), mask=torch.zeros(3, 7, dtype=torch.bool))

    assert metric.state_dict()["right_and_total"].tolist()[1] == 3


@pytest.mark.parametrize(
    "metric, logits, targets, message",
    [
        (Accuracy(), (4, 3), torch.zeros(4), r"accuracy: needs class labels, but targets are torch.float32"),
        (Accuracy(), (4, 3), torch.zeros(5, dtype=torch.int64), r"outputs have shape \[4, 3\] and targets \[5\]"),
        (Accuracy(class_dim=1), (2, 5, 3), torch.zeros(2, 5, dtype=torch.int64), "one dimension more must be classes"),
        (Accuracy(top_k=4), (4, 3), torch.zeros(4, dtype=torch.int64), "top_k = 4, but the outputs tell only 3"),
        (F1(num_classes=5), (4, 3), torch.zeros(4, dtype=torch.int64), "F1: the outputs tell 3 classes apart, but num"),
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
def test_what_does_not_fit_is_named(
    metric: CountingMetric, logits: tuple[int, ...], targets: Tensor, message: str
) -> None:
    """Shapes, types and labels that do not fit are refused with what was given."""
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
    """What cannot be built is refused by the name of the option."""
    with pytest.raises(ValueError, match=message):
        build()


# --- state ------------------------------------------------------------------------------------------------------

METRICS = [Accuracy, F1, PerClass, ConfusionMatrix]


@given(drawn, st.sampled_from(METRICS), st.integers(0, 3))
def test_state_goes_on_where_it_was(data: Drawn, metric: type[CountingMetric], cut: int) -> None:
    """Saved between any two batches and loaded into a new metric, the figures come out the same."""
    options = {"num_classes": data.classes} if issubclass(metric, ClassCountingMetric) else {}
    whole, batches = data.feed(metric(**options)).compute(), data.batches
    first, second = metric(**options), metric(**options)

    data.batches = batches[:cut]
    saved = data.feed(first).state_dict()
    second.load_state_dict(saved)
    before = {name: one.clone() for name, one in saved.items()}
    data.batches = batches[cut:]

    np.testing.assert_equal(data.feed(second).compute(), whole)
    assert all(torch.equal(saved[name], before[name]) for name in saved)


@pytest.mark.parametrize("metric", METRICS)
def test_reset_forgets(metric: type[CountingMetric]) -> None:
    """After a reset, the figures are those of the batches that follow."""
    used = metric()
    update(used, torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    used.reset()
    logits, targets = torch.randn(5, 3), torch.tensor([2, 1, 0, 1, 1])

    np.testing.assert_equal(update(used, logits, targets), update(metric(), logits, targets))
    assert metric().state_dict() == {}


@pytest.mark.parametrize("metric", METRICS)
def test_updates_look_at_no_value(metric: type[CountingMetric]) -> None:
    """On tensors without values an update succeeds, so on a GPU it waits for nothing."""
    one = metric()
    batch: Any = {
        "targets": torch.zeros(4, dtype=torch.int64, device="meta"),
        "mask": torch.ones(4, dtype=torch.bool, device="meta"),
    }

    for _ in range(2):
        one.update(ModelOutput(torch.zeros(4, 3, device="meta")), batch)

    assert all(state.is_meta for state in one.state_dict().values())


# --- functions --------------------------------------------------------------------------------------------------

labels = st.integers(1, 30).flatmap(
    lambda size: st.tuples(*(st.lists(st.integers(0, 4), min_size=size, max_size=size) for _ in range(2)))
)


@given(labels, st.sampled_from([list, np.array, torch.tensor]))
def test_functions_are_scikit_learns(pair: tuple[list[int], list[int]], form: Any) -> None:
    """Lists, arrays and tensors give scikit-learn's figures."""
    predicted, true = pair
    given_both = form(predicted), form(true)

    same(compute_accuracy(*given_both), sk.accuracy_score(true, predicted))
    for average in ("macro", "micro", "weighted"):
        same(compute_f1_score(*given_both, average), sk.f1_score(true, predicted, average=average, zero_division=0))  # type: ignore[arg-type]
    each = sk.f1_score(true, predicted, labels=range(max(*true, *predicted) + 1), average=None, zero_division=0)
    assert compute_f1_score(*given_both, None) == compute_f1_score(*given_both, "none") == pytest.approx(each.tolist())
    matrix = compute_confusion_matrix(*given_both, 5)
    assert isinstance(matrix, np.ndarray)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(true, predicted, labels=range(5)))
    found = compute_per_class_metrics(*given_both, 5)
    expected = sk.precision_recall_fscore_support(true, predicted, labels=range(5), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(found[name], values)


def test_functions_take_scores() -> None:
    """Class scores with one dimension more are turned into labels."""
    scores, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])

    assert compute_accuracy(scores, targets) == compute_accuracy(scores.argmax(1), targets)
    assert compute_f1_score(scores, targets) == compute_f1_score(scores.argmax(1), targets)


@given(seed=st.integers(0, 999), k=st.integers(1, 6))
def test_top_k_function_is_scikit_learns(seed: int, k: int) -> None:
    """With k below the number of classes the share is scikit-learn's; with all of them it is 1."""
    generator = np.random.default_rng(seed)
    scores, targets = generator.normal(size=(8, 6)), generator.integers(0, 6, size=8)

    expected = 1.0 if k == 6 else sk.top_k_accuracy_score(targets, scores, k=k, labels=range(6))
    same(compute_top_k_accuracy(scores, targets, k=k), expected)


def test_functions_of_nothing() -> None:
    """No labels have no accuracy, and a table of zeros."""
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
        (lambda: compute_top_k_accuracy([[0.1, 0.9]], [1]), "top_k = 5, but the outputs tell only 2 classes apart"),
    ],
)
def test_functions_name_what_does_not_fit(call: Any, message: str) -> None:
    """Bad arguments are refused with what was given."""
    with pytest.raises(ValueError, match=message):
        call()


# --- a tracker for a loop of one's own --------------------------------------------------------------------------


@given(drawn, st.sampled_from(["macro", "micro", "weighted", None]), st.booleans(), st.booleans())
def test_a_tracker_is_scikit_learns(data: Drawn, average: Any, known: bool, scores: bool) -> None:
    """Over any batches, of labels or scores, it gives scikit-learn's figures, and each class's for "none"."""
    tracker = MetricsTracker(data.classes if known else None)
    for logits, labels, mask in data.batches:
        kept = (labels != -100) & (torch.ones_like(labels, dtype=torch.bool) if mask is None else mask)
        said = logits.movedim(1, -1)[kept]
        tracker.update(said if scores else said.argmax(-1), labels[kept])
    true, predicted = data.true.numpy(), data.predicted.numpy()

    found = tracker.compute(average or "none")

    if not len(true):
        assert math.isnan(found["accuracy"])
        return
    same(found["accuracy"], sk.accuracy_score(true, predicted))
    classes = range(data.classes if known else max(*true, *predicted) + 1)
    options: Any = {"average": average, "zero_division": 0.0} | ({"labels": classes} if average is None else {})
    for name, reference in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert found[name] == pytest.approx(reference(true, predicted, **options), rel=1e-12)


def test_a_tracker_forgets_and_refuses() -> None:
    """After a reset nothing is left; what does not fit is named, at once or when there are figures to be made."""
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


def test_a_tracker_looks_at_no_value_before_it_is_asked() -> None:
    """On tensors without values an update succeeds, so on a GPU it waits for nothing."""
    tracker = MetricsTracker()

    for _ in range(2):
        tracker.update(torch.zeros(4, 3, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta"))


# --- by a column ------------------------------------------------------------------------------------------------


@given(drawn, st.lists(st.sampled_from([0, 1, 2.5]), min_size=18, max_size=18), st.booleans())
def test_a_column_tells_groups_apart(data: Drawn, values: list[float], as_words: bool) -> None:
    """Each value of a column, a number or a word, has the matrix of its own samples."""
    metric, expected, place = ConfusionMatrix(by="load"), {}, 0
    for logits, labels, mask in data.batches:
        column = values[place : place + len(labels)]
        place += len(labels)
        meta: Any = [f"{one:g}" for one in column] if as_words else torch.tensor(column)
        batch: Any = {"targets": labels, "meta": {"load": meta}}
        metric.update(ModelOutput(logits), batch if mask is None else {**batch, "mask": mask})
        kept = (labels != -100) & (torch.ones_like(labels, dtype=torch.bool) if mask is None else mask)
        for value in set(column):
            rows = kept & torch.tensor([one == value for one in column]).reshape(-1, *[1] * (labels.ndim - 1))
            table = compute_confusion_matrix(logits.argmax(1)[rows], labels[rows], data.classes)
            expected[value] = expected.get(value, np.zeros((data.classes, data.classes), int)) + table
    figures = metric.compute()

    names = {f"confusion_matrix_load_{value:g}": table for value, table in sorted(expected.items())}
    assert [*figures] == ["confusion_matrix", *names]
    assert all(figures[name] == table.tolist() for name, table in names.items())


def test_numbers_of_a_column_are_grouped() -> None:
    """Between edges, the lower one belonging to the group; groups come in their order."""
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
    "meta, said",
    [
        ({"speed": torch.zeros(30)}, "no column of the batch's meta, it carries speed"),
        ({}, "it carries none"),
        ({"load": torch.arange(30)}, "more than 24 values; set edges"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(meta: Any, said: str) -> None:
    """One that the batch does not carry, or has too many values."""
    metric = ConfusionMatrix(by="load")
    with pytest.raises(ValueError, match=said):
        metric.update(ModelOutput(torch.zeros(30, 2)), {"targets": torch.zeros(30, dtype=torch.int64), "meta": meta})


@pytest.mark.parametrize("options", [{"edges": [1.0]}, {"by": "a", "edges": [2.0, 1.0]}, {"by": "a", "edges": [1, 1]}])
def test_edges_rise_along_a_column(options: Any) -> None:
    """Edges that do not, or that divide no column, are refused when the metric is built."""
    with pytest.raises(ValueError, match="edges"):
        ConfusionMatrix(**options)
