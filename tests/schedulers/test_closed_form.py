"""Tests of closed-form schedulers: their state and how they set rates."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD

from dovetail.schedulers import step
from rates import optimizer, rates_over


def test_a_state_for_other_groups_is_refused() -> None:
    """A state saved for two groups does not fit an optimizer with one group."""
    saved = step(optimizer()).state_dict()

    with pytest.raises(ValueError, match="saved for 2 parameter groups, but the optimizer has 1"):
        step(optimizer((0.1,))).load_state_dict(saved)


def test_a_scheduler_fills_a_tensor_rate_in_place() -> None:
    """A capturable optimizer's learning rate is a tensor."""
    rate = torch.tensor(0.1)
    sgd = SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)
    held = sgd.param_groups[0]["lr"]

    rates_over(step(sgd, step_size=1, gamma=0.5), 2)

    assert sgd.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.025)
