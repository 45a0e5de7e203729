"""Logits and labels for tests of losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

CLASSES = 4


def scores(*shape, seed=0):
    """Return fp64 scores that need a gradient."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def labels(*shape, seed=0):
    """Return class labels."""
    return torch.randint(0, CLASSES, shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def labelled(draw: st.DrawFn, *, ignored: bool = True) -> tuple[Tensor, Tensor]:
    """Draw fp64 logits ``[batch, classes, *space]`` and labels; at least one label counts."""
    batch, space = draw(st.integers(1, 5)), draw(st.sampled_from([(), (3,), (2, 2)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    shape = (batch, CLASSES, *space)
    logits = draw(st.sampled_from([0.1, 1.0, 8.0])) * torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (batch, *space), generator=generator)
    if ignored:
        hidden = torch.rand(labels.shape, generator=generator) < draw(st.sampled_from([0.0, 0.4]))
        hidden.view(-1)[0] = False
        labels[hidden] = -100
    return logits.requires_grad_(), labels


def one_hot(labels: Tensor) -> Tensor:
    """Return labels as probabilities of 0 and 1, with the classes on dimension 1."""
    return F.one_hot(labels, CLASSES).movedim(-1, 1).double()


def detected(seed=0, batch=2, boxes=6):
    """Return logits and labels of a detector with 3 classes: some boxes are empty, one has class -100."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, boxes, 4 + 3, generator=generator, dtype=torch.float64).requires_grad_()
    classes = torch.randint(-1, 3, (batch, boxes, 1), generator=generator).double()
    classes[0, 0] = -100
    places = torch.rand(batch, boxes, 4, generator=generator, dtype=torch.float64)
    return logits, torch.cat([places, classes], -1)


class WeightedLoss:
    """A loss strategy as a user writes it: class-weighted cross-entropy."""

    def __init__(self, weights: Tensor | None = None) -> None:
        self.weights = weights

    def compute_loss(self, logits, labels, inputs=None):
        """Return weighted cross-entropy."""
        if inputs and inputs.get("attention_mask") is not None:
            labels = labels.where(inputs["attention_mask"], -100)
        return F.cross_entropy(logits, labels, self.weights)

    def validate_inputs(self, logits, labels):
        """Raise unless there is one label per sample."""
        if labels.ndim != 1:
            raise ValueError("one label per sample")
