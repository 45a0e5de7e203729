"""The supervised contrastive loss against its formula, term by term."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dovetail.losses import (
    SupConLoss,
    as_loss,
)
from dovetail.models import ModelOutput


def by_hand(embedded, labels, temperature):
    """Return the loss from equation 2 of Khosla et al., and the number of anchors it averages over."""
    embedded = F.normalize(embedded, dim=-1)
    terms = []
    for i in range(len(labels)):
        others = [a for a in range(len(labels)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if positives:
            denominator = sum(math.exp(float(embedded[i] @ embedded[a]) / temperature) for a in others)
            terms.append(
                -sum(
                    math.log(math.exp(float(embedded[i] @ embedded[p]) / temperature) / denominator) for p in positives
                )
                / len(positives)
            )
    return (sum(terms) / len(terms) if terms else 0.0), len(terms)


@given(
    seed=st.integers(0, 1000),
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=7),
    temperature=st.sampled_from([0.07, 0.1, 0.5, 2.0]),
    views=st.sampled_from([None, 1, 2, 3]),
)
def test_it_is_its_formula(seed, labels, temperature, views):
    """It is the published formula, for one embedding or several views per sample."""
    shape = (len(labels), 4) if views is None else (len(labels), views, 4)
    embedded = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    each = [label for label in labels for _ in range(views or 1)]
    expected, anchors = by_hand(embedded.reshape(-1, 4), each, temperature)

    result = as_loss(SupConLoss(temperature))(ModelOutput(embedded), {"targets": torch.tensor(labels)})

    assert float(result.total) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(result.weight) == anchors


@given(seed=st.integers(0, 100))
def test_only_directions_count(seed):
    """The length of an embedding does not change the loss."""
    generator = torch.Generator().manual_seed(seed)
    embedded, labels = torch.randn(6, 3, generator=generator).double(), torch.tensor([0, 0, 1, 1, 2, 2])
    lengths = torch.rand(6, 1, generator=generator).double() + 0.1

    torch.testing.assert_close(SupConLoss()(embedded, labels), SupConLoss()(embedded * lengths, labels))


def test_half_precision_is_computed_in_float32():
    """Embeddings in half precision give a loss in float32."""
    embedded, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1, 2, 2])

    actual = SupConLoss()(embedded.bfloat16(), labels)

    assert actual.dtype is torch.float32
    torch.testing.assert_close(actual, SupConLoss()(embedded.bfloat16().float(), labels))


def test_it_separates_classes():
    """Gradient descent pulls samples of one class together and pushes classes apart."""
    torch.manual_seed(0)
    embedded, labels = torch.randn(12, 3, requires_grad=True), torch.arange(12) % 3
    optimizer = torch.optim.Adam([embedded], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        SupConLoss()(embedded, labels).backward()
        optimizer.step()
    cosine = F.normalize(embedded.detach(), dim=-1) @ F.normalize(embedded.detach(), dim=-1).T
    alike = labels[:, None] == labels

    assert float(cosine[alike].min()) > 0.9
    assert float(cosine[~alike].max()) < 0.5


def test_without_a_pair_loss_and_gradient_are_zero():
    """If no two samples have the same class, the loss is 0; the gradient at length 0 is finite."""
    embedded = torch.zeros(3, 2, requires_grad=True)

    SupConLoss()(embedded, torch.tensor([0, 1, 2])).backward()

    assert embedded.grad.tolist() == [[0, 0]] * 3
    SupConLoss()(embedded, torch.tensor([0, 0, 2])).backward()
    assert bool(embedded.grad.isfinite().all())


@pytest.mark.parametrize(
    "embedded, labels, message",
    [
        ((3,), torch.zeros(3).long(), r"embeddings have shape \[3\] and labels \[3\]; it needs"),
        ((3, 4), torch.zeros(2).long(), r"embeddings have shape \[3, 4\] and labels \[2\]"),
        ((3, 4), torch.zeros(3), "labels are torch.float32; it needs integers"),
    ],
)
def test_inputs_that_do_not_fit_raise(embedded, labels, message):
    """The error for shapes and types that do not fit has both."""
    with pytest.raises(ValueError, match=message):
        SupConLoss()(torch.zeros(embedded), labels)


def test_a_temperature_of_0_raises():
    """The loss divides by the temperature."""
    with pytest.raises(ValueError, match="temperature: must be above 0, got 0"):
        SupConLoss(0.0)
