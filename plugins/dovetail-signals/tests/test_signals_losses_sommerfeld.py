"""Sommerfeld consistency."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail import ModelOutput
from dovetail.ops import sommerfeld_number, sommerfeld_severity
from dovetail_signals.losses.sommerfeld import SommerfeldConsistencyLoss


def scored(logits):
    """Return outputs with these logits."""
    return ModelOutput.from_raw(torch.as_tensor(logits, dtype=torch.float32))


def test_sommerfeld_consistency_reads_conditions_or_the_number():
    """It uses oil, speed and load, or the Sommerfeld number, and the given order of severities."""
    conditions = {
        "viscosity": torch.tensor([0.02, 0.01]),
        "rpm": torch.tensor([1800.0, 900.0]),
        "load_newton": torch.tensor([1000.0, 9000.0]),
    }
    number = sommerfeld_number(*conditions.values())
    expected = sommerfeld_severity(number).float()
    loss = SommerfeldConsistencyLoss([2, 0, 1])
    scores = scored([[0.0, -math.inf, -math.inf], [-math.inf, 0.0, -math.inf]])  # levels 0.5 and 1

    by_conditions = loss(scores, {"meta": conditions}).total
    by_number = loss(scores, {"meta": {"sommerfeld": number}}).total

    wanted = ((torch.tensor([0.5, 1.0]) - expected) ** 2).mean()
    torch.testing.assert_close(by_conditions, wanted)
    torch.testing.assert_close(by_number, wanted)


def test_sommerfeld_consistency_of_a_predicted_severity():
    """One number for each sample is the predicted severity."""
    found = SommerfeldConsistencyLoss()(scored([[0.5], [0.25]]), {"meta": {"sommerfeld": [math.inf, 0.0]}})

    assert found.total.item() == pytest.approx((0.5**2 + 0.75**2) / 2)


def test_one_number_for_each_sample_is_not_logits():
    """With class labels it raises, even if there are as many samples as classes."""
    batch = {"targets": torch.arange(3), "meta": {"sommerfeld": torch.ones(3)}}

    with pytest.raises(ValueError, match=r"outputs have shape \[3\] instead of \[batch, classes\]"):
        SommerfeldConsistencyLoss()(scored([0.1, 0.2, 0.3]), batch)
