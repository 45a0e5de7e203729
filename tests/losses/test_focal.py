"""The focal loss against cross-entropy, its closed form, and numerical gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dovetail.losses import (
    FocalLoss,
)
from loss_samples import CLASSES, labelled, one_hot


@given(labelled(), st.sampled_from(["mean", "sum", "none"]))
def test_without_gamma_it_is_cross_entropy(drawn: tuple[Tensor, Tensor], reduction: str) -> None:
    """With gamma 0 and no alpha, the focal loss is torch's cross-entropy, for every reduction."""
    logits, labels = drawn

    actual = FocalLoss(gamma=0.0, reduction=reduction)(logits, labels)

    torch.testing.assert_close(actual, F.cross_entropy(logits, labels, reduction=reduction))


@given(labelled(), st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]), st.sampled_from([None, 0.25, [0.1, 1.0, 2.0, 0.0]]))
def test_it_is_its_closed_form(drawn: tuple[Tensor, Tensor], gamma: float, alpha: float | list[float] | None) -> None:
    """The focal loss is the mean of alpha · (1 - p)^gamma · -log p over the labels that count."""
    logits, labels = drawn
    factors = [1.0] * CLASSES if alpha is None else [alpha] * CLASSES if isinstance(alpha, float) else alpha
    p = logits.detach().softmax(dim=1).movedim(1, -1).reshape(-1, CLASSES)
    terms = [
        factors[label] * (1 - float(p[row, label])) ** gamma * -math.log(float(p[row, label]))
        for row, label in enumerate(labels.flatten().tolist())
        if label != -100
    ]

    actual = FocalLoss(alpha, gamma)(logits, labels)

    assert actual.item() == pytest.approx(sum(terms) / len(terms), rel=1e-6, abs=1e-9)


@given(labelled(ignored=False), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([None, [0.1, 1.0, 2.0, 0.5]]))
def test_one_hot_probabilities_are_labels(
    drawn: tuple[Tensor, Tensor], gamma: float, alpha: list[float] | None
) -> None:
    """One-hot class probabilities give the loss of their labels."""
    logits, labels = drawn
    loss = FocalLoss(alpha, gamma)

    torch.testing.assert_close(loss(logits, one_hot(labels)), loss(logits, labels))


@given(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.booleans())
def test_gradient_is_the_numerical_one(gamma: float, probabilities: bool) -> None:
    """Autograd's gradient agrees with finite differences, also for class probabilities and ignored labels."""
    logits = torch.randn(3, CLASSES, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[0, 1], [3, 2], [2, -100]])
    targets = torch.full_like(logits, 1 / CLASSES) if probabilities else labels

    assert torch.autograd.gradcheck(
        lambda x: FocalLoss([1.0, 2.0, 0.5, 1.0], gamma)(x, targets), logits.requires_grad_()
    )


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_finite_where_the_model_is_certain(gamma: float, dtype: torch.dtype) -> None:
    """A probability of exactly 1 gives no NaN, although (1 - p)^gamma may have an infinite slope there."""
    logits = torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]], dtype=dtype, requires_grad=True)

    FocalLoss(gamma=gamma)(logits, torch.tensor([0, 0])).backward()

    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert float(logits.grad[1].abs().sum()) > 0


def test_ignoring_every_label_gives_zero() -> None:
    """A batch in which every label is ignored has loss 0 and gradient 0."""
    logits = torch.randn(2, 3, requires_grad=True)

    loss = FocalLoss()(logits, torch.tensor([-100, -100]))
    loss.backward()

    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gamma": -1.0}, "gamma: must be at least 0, got -1"),
        ({"reduction": "avg"}, "reduction: 'avg' is not one of mean, none, sum"),
        ({"alpha": -0.5}, "alpha: must be one finite number ≥ 0 per class"),
        ({"alpha": [1.0, -1.0]}, "alpha: must be one finite number ≥ 0 per class"),
        ({"alpha": "balanced"}, "alpha: 'balanced' needs the samples per class"),
        ({"alpha": "even"}, "alpha: must be a list of numbers or 'balanced', got 'even'"),
        ({"alpha": [1.0, 2.0], "class_counts": [1, 2, 3]}, "alpha: has 2 numbers, but there are 3 classes"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    """The constructor's error names the option."""
    with pytest.raises(ValueError, match=message):
        FocalLoss(**options)


def test_an_alpha_of_the_wrong_length_is_named() -> None:
    """Without class counts, the loss compares the number of factors with the logits."""
    with pytest.raises(ValueError, match="alpha: has 2 factors, but the model has 3 classes"):
        FocalLoss([1.0, 2.0])(torch.randn(2, 3), torch.tensor([0, 1]))


def test_alpha_may_be_a_tensor() -> None:
    """Alpha may be a tensor with one factor, or with one factor per class."""
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])

    for given_alpha, same in ((torch.tensor(0.25), 0.25), (torch.tensor([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0])):
        torch.testing.assert_close(FocalLoss(given_alpha)(logits, labels), FocalLoss(same)(logits, labels))
