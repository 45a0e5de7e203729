"""Cross-entropy of classes: the factory, smoothed labels, and the native loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dovetail.losses import (
    ClassificationLoss,
    LabelSmoothingCrossEntropy,
    cross_entropy,
)
from dovetail.models import ModelOutput
from loss_samples import CLASSES, labelled, labels, one_hot, scores


def test_cross_entropy_is_torchs_own() -> None:
    """The factory returns torch's class with the given options."""
    loss = cross_entropy([1.0, 2.0], ignore_index=7, label_smoothing=0.1, reduction="none")

    assert type(loss) is torch.nn.CrossEntropyLoss
    assert (loss.ignore_index, loss.label_smoothing, loss.reduction) == (7, 0.1, "none")
    assert loss.weight is not None
    assert loss.weight.tolist() == [1.0, 2.0]


def test_balanced_weights_come_from_class_counts() -> None:
    """``"balanced"`` is the inverse class frequency in the training split, in the factory and in the native loss."""
    loss = cross_entropy("balanced", class_counts=[10, 30, 60])

    assert loss.weight is not None
    torch.testing.assert_close(loss.weight, torch.tensor([100 / 30, 100 / 90, 100 / 180]))
    native = ClassificationLoss(class_weights="balanced", class_counts=[10, 30])
    assert native.class_weights.tolist() == pytest.approx([2.0, 2 / 3])


@given(labelled(), st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([None, [0.5, 1.0, 2.0, 4.0]]))
def test_label_smoothing_is_its_closed_form(
    drawn: tuple[Tensor, Tensor], smoothing: float, weight: list[float] | None
) -> None:
    """The loss is Σ_c w_c · q_c · -log p_c per label, with smoothed labels q, divided by the weight of the labels."""
    logits, labels = drawn
    weights = torch.tensor(weight or [1.0] * CLASSES, dtype=torch.float64)
    log_p = logits.log_softmax(dim=1).movedim(1, -1).reshape(-1, CLASSES)
    kept = labels.flatten() != -100
    log_p, true = log_p[kept], labels.flatten()[kept]
    q = (1 - smoothing) * F.one_hot(true, CLASSES).double() + smoothing / CLASSES

    actual = LabelSmoothingCrossEntropy(smoothing, weight).double()(logits, labels)

    torch.testing.assert_close(actual, -(weights * q * log_p).sum() / weights[true].sum())


@given(labelled(ignored=False))
def test_label_smoothing_takes_probabilities(drawn: tuple[Tensor, Tensor]) -> None:
    """One-hot class probabilities give the loss of their labels."""
    logits, labels = drawn
    loss = LabelSmoothingCrossEntropy(0.2)

    torch.testing.assert_close(loss(logits, one_hot(labels)), loss(logits, labels))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_smoothing_out_of_range_is_named(smoothing: float) -> None:
    """Both losses with smoothing raise an error for a fraction outside 0 to 1."""
    with pytest.raises(ValueError, match="smoothing: must be between 0 and 1"):
        LabelSmoothingCrossEntropy(smoothing)
    with pytest.raises(ValueError, match="label_smoothing: must be between 0 and 1"):
        ClassificationLoss(label_smoothing=smoothing)


def test_class_weights_are_not_in_the_state_dict() -> None:
    """Weights come from the config, so they are not saved; they move with the module."""
    loss = LabelSmoothingCrossEntropy(weight=[1.0, 2.0]).double()

    assert loss.state_dict() == {}
    assert loss.weight is not None
    assert loss.weight.dtype == torch.float64


@given(
    seed=st.integers(0, 100),
    weights=st.sampled_from([None, [1.0, 2.0, 0.5, 3.0]]),
    smoothing=st.sampled_from([0.0, 0.1]),
    by_call=st.booleans(),
)
def test_classification_is_torchs_cross_entropy(seed, weights, smoothing, by_call):
    """The native loss is torch's, with its own class weights or a call's, with smoothing, and with ignored labels."""
    logits, targets = scores(5, CLASSES, seed=seed), labels(5, seed=seed)
    targets[0] = -100
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = ClassificationLoss(class_weights=None if by_call else weights, label_smoothing=smoothing)

    actual = loss.compute_loss(logits, targets, {"class_weights": tensor} if by_call else None)

    torch.testing.assert_close(
        actual, F.cross_entropy(logits, targets, tensor, label_smoothing=smoothing), check_dtype=False
    )


def test_the_weight_is_the_class_weight_of_labels_that_count():
    """A batch in which no label counts has weight 0, loss 0 and gradient 0."""
    loss = ClassificationLoss(class_weights=[1.0, 2.0, 4.0, 8.0])
    logits, targets = scores(3, CLASSES), torch.tensor([1, -100, 3])

    counted = loss(ModelOutput(logits), {"targets": targets})
    hidden = loss(ModelOutput(logits), {"targets": targets, "mask": torch.tensor([True, True, False])})
    nothing = loss(ModelOutput(logits), {"targets": targets, "mask": torch.zeros(3, dtype=torch.bool)})
    (gradient,) = torch.autograd.grad(nothing.total, logits)

    assert (float(counted.weight), float(hidden.weight), float(nothing.weight)) == (10.0, 2.0, 0.0)
    assert float(nothing.total.detach()) == 0
    assert not gradient.any()
