"""Random draws for augmentation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest

from dovetail.random import Draws
from dovetail_signals.augment.draws import beta, partners


def draws(count=4, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 5.0])
def test_weights_follow_the_beta_distribution(alpha):
    """The empirical distribution of 20,000 draws is within 0.02 of Beta (float32 rounds the largest to 1)."""
    drawn = beta(draws(20_000), "share", alpha)

    assert kstest(drawn.numpy(), beta_distribution(alpha, alpha).cdf).statistic < 0.02
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    with pytest.raises(ValueError, match="alpha must be above 0"):
        beta(draws(), "share", 0.0)


@given(st.integers(2, 40), st.integers(0, 99))
def test_partners_form_a_cycle(count, seed):
    """Each sample is the partner of exactly one other sample."""
    found = partners(draws(count, seed))

    assert sorted(found.tolist()) == list(range(count))
    assert (found != torch.arange(count)).all()
