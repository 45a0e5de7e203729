"""AutoAugment for signals."""

from __future__ import annotations

import pytest
import torch

from dovetail.random import Draws
from dovetail_signals.augment.policy import OPERATIONS, RandomPolicy


def draws(count=4, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


def signals(count=4, channels=2, length=50, seed=0):
    """Return a batch of noise."""
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(seed))


def test_a_policy_applies_one_sub_policy_to_each_sample():
    """Of two deterministic sub-policies, each sample gets one, with equal probability; invalid policies raise."""
    policy = [[("invert", 1.0, 0.0)], [("shift", 0.0, 10.0)]]
    batch = signals(2000, 1, 5)
    found = RandomPolicy(policy)(batch, draws=draws(2000))
    inverted = (found == -batch).all(-1).all(-1)

    assert 900 < int(inverted.sum()) < 1100
    assert torch.equal(found[~inverted], batch[~inverted])
    for bad, message in {
        (): "the policy is empty",
        (((("warp", 1.0, 1.0)),),): "use one of noise",
        (((("noise", 2.0, 1.0)),),): "probability from 0 to 1",
    }.items():
        with pytest.raises(ValueError, match=message):
            RandomPolicy(bad)
    assert set(OPERATIONS) == {"noise", "scale", "shift", "mask", "invert"}
