"""Addressed draws of points."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pinn.sampling import SAMPLERS, latin_hypercube, residual_weights, weighted_sample

SEEDS = st.integers(0, 2**63)


@given(SEEDS, st.integers(1, 200), st.integers(1, 3))
def test_a_latin_hypercube_has_one_point_in_each_slice(seed, count, dimensions):
    """Each of n equal slices of each coordinate holds exactly one of n points."""
    found = latin_hypercube(count, dimensions, seed, "test")

    assert torch.equal((found * count).long().sort(dim=0).values, torch.arange(count)[:, None].expand(-1, dimensions))


@pytest.mark.parametrize("name", SAMPLERS)
@given(seed=SEEDS)
def test_draws_are_addressed(name, seed):
    """The same address gives the same points, regardless of other draws; another round or stream gives others."""
    draw = SAMPLERS[name]
    first = draw(20, 2, seed, "a", 1)
    draw(7, 2, seed, "a", 1)
    torch.rand(3)

    assert torch.equal(first, draw(20, 2, seed, "a", 1))
    assert not torch.equal(first, draw(20, 2, seed, "a", 2))
    assert not torch.equal(first, draw(20, 2, seed, "b", 1))
    assert ((first >= 0) & (first < 1)).all()


def test_weighted_draws_follow_the_weights():
    """Over many rounds, candidates are drawn in proportion to their weights; a draw has no repetition."""
    weights = torch.tensor([1.0, 2.0, 5.0])
    chosen = torch.cat([weighted_sample(weights, 1, 0, "test", number) for number in range(4000)])

    assert torch.bincount(chosen) / 4000 == pytest.approx(weights / 8, abs=0.03)
    assert weighted_sample(torch.rand(50), 50, 0, "test").tolist() == list(range(50))
    with pytest.raises(ValueError, match="from 3 candidates"):
        weighted_sample(weights, 4, 0, "test")


def test_weights_of_residuals():
    """The published formula for two equations; all weights are equal for exponent 0 or without any residual."""
    residuals = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])

    assert residual_weights(residuals, 2, 1) == pytest.approx(torch.tensor([25, 1, 0]) / (26 / 3) + 1)
    assert residual_weights(residuals, 0, 1).unique().numel() == 1
    assert residual_weights(torch.zeros(3, 1), 1, 0).unique().numel() == 1
