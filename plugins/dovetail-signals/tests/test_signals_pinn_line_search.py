"""The line search for the strong Wolfe conditions."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pinn.line_search import Trial, strong_wolfe


@given(st.floats(0.01, 100), st.floats(0.01, 10))
def test_steps_satisfy_the_strong_wolfe_conditions(distance, width):
    """For any first distance, on a function with one minimum."""

    def evaluate(t):
        loss = (t - width) ** 2 / (1 + t)
        slope = (2 * (t - width) * (1 + t) - (t - width) ** 2) / (1 + t) ** 2
        return Trial(t, loss, torch.tensor([slope]), slope)

    start = evaluate(0.0)
    found = strong_wolfe(evaluate, start, distance, 50)

    assert found.loss <= start.loss + 1e-4 * found.distance * start.slope
    assert abs(found.slope) <= 0.9 * abs(start.slope)


def test_an_ascent_direction_returns_the_start():
    """If every distance increases the loss, the result is the start."""

    def evaluate(t):
        return Trial(t, t, torch.tensor([1.0]), -1.0 if not t else 1.0)

    start = evaluate(0.0)

    assert strong_wolfe(evaluate, start, 1.0, 20) is start
