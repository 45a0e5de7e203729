"""The loss for quantised training: the gradient at the logits is clipped."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dovetail.losses import (
    QuantizationSafeLoss,
)
from dovetail.models import ModelOutput
from loss_samples import CLASSES, labels, scores


@given(
    bits=st.sampled_from([8, 4]),
    symmetric=st.booleans(),
    scaled=st.sampled_from([1.0, 5.0, 1024.0]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_the_gradient_of_a_unit_is_clipped_to_the_quantisers_range(bits, symmetric, scaled, dtype):
    """However the loss is scaled before backward, a sample's gradient is at most 1 and at least -1 or -(q + 1)/q."""
    computed = torch.float64 if dtype is torch.float64 else torch.float32
    weights = torch.tensor([1.0, 50.0, 0.1, 8.0], dtype=computed)
    targets = torch.tensor([0, 1, 2, 3])
    logits = scores(4, CLASSES, seed=3).detach().to(dtype).requires_grad_()
    loss = QuantizationSafeLoss(bits, symmetric, loss=torch.nn.CrossEntropyLoss(weights))

    result = loss(ModelOutput(logits), {"targets": targets})
    (result.total * scaled).backward()

    reference = logits.detach().to(computed).requires_grad_()
    plain = F.cross_entropy(reference, targets, weights)
    plain.backward()
    steps = 2 ** (bits - 1) - 1
    lowest = -1.0 if symmetric else -(steps + 1) / steps
    unit = scaled / float(weights.sum())
    expected = (reference.grad * scaled).clamp(lowest * unit, unit)
    torch.testing.assert_close(result.total, plain)  # dtypes too
    torch.testing.assert_close(logits.grad, expected.to(dtype))
    assert bool((reference.grad * scaled != expected).any()), "the example has nothing to clip"


def test_without_a_gradient_it_is_the_other_loss():
    """In evaluation there is no gradient to clip."""
    logits, targets = scores(3, CLASSES), labels(3)

    with torch.no_grad():
        actual = QuantizationSafeLoss().compute_loss(logits, targets)

    torch.testing.assert_close(actual, F.cross_entropy(logits, targets))
    assert not actual.requires_grad
