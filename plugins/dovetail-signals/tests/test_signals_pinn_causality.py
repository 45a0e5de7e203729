"""Causal weights and their strictness."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail_signals.pinn.causality import Causality, CausalWeights
from dovetail_signals.pinn.loss import PDELoss
from dovetail_signals.pinn.problems import PROBLEMS, Problem


def slices(losses, strictness, *, training=True, threshold=0.5):
    """Return causal weights and their loss, with one point in each time slice."""
    problem = Problem(equation=PROBLEMS["heat"].equation, domain={"x": (0, 1), "t": (2, 4)})
    weights = CausalWeights(Causality(bins=len(losses), strictness=strictness, threshold=threshold), problem)
    weights.train(training)
    times = 2 + 2 * (torch.arange(len(losses)) + 0.5) / len(losses)
    holds = torch.ones(len(losses), dtype=torch.bool)
    return weights, weights(torch.tensor(losses), holds, times)


def test_later_times_count_once_earlier_ones_hold():
    """The weight of a slice follows the published formula, and is one if earlier slices hold."""
    _, found = slices([1.0, 2.0, 4.0], [0.5])
    _, learned = slices([0.0, 0.0, 4.0], [0.5])

    assert found.item() == pytest.approx((1 + math.exp(-0.5) * 2 + math.exp(-1.5) * 4) / 3)
    assert learned.item() == pytest.approx(4 / 3)


def test_strictness_rises_with_success():
    """The next strictness applies once the smallest weight exceeds the threshold; the last one stays."""
    weights, _ = slices([0.1, 0.1, 4.0], [1.0, 100.0])
    weights.advance()
    assert int(weights.level) == 1
    weights.advance()
    assert int(weights.level) == 1
    unsatisfied, _ = slices([5.0, 0.1, 4.0], [1.0, 100.0])
    unsatisfied.advance()
    assert int(unsatisfied.level) == 0


def test_strictness_is_part_of_the_state():
    """A resumed run continues with its strictness."""
    loss = PDELoss("heat", causality=Causality(strictness=(1.0, 2.0)))
    loss.causal.smallest.fill_(1.0)
    loss.dovetail_epoch_end()
    other = PDELoss("heat", causality=Causality(strictness=(1.0, 2.0)))
    other.load_state_dict(loss.state_dict())

    assert int(other.causal.level) == 1


@pytest.mark.parametrize("options", [{"bins": 1}, {"strictness": ()}, {"strictness": (-1.0,)}, {"threshold": 2.0}])
def test_invalid_options_raise(options):
    """At least two slices, strictness of at least 0, a threshold from 0 to 1."""
    with pytest.raises(ValueError, match=r"must be|needs"):
        Causality(**options)


def test_causality_needs_time():
    """A problem without time has no order of times."""
    still = Problem(equation=PROBLEMS["heat"].equation, domain={"x": (0, 1)})

    with pytest.raises(ValueError, match="no time"):
        CausalWeights(Causality(), still)
