"""Tests of cosine annealing against torch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts

from dovetail.schedulers import cosine, warm_restarts
from rates import assert_close, optimizer, rates_over


@given(
    epochs=st.integers(1, 12),
    per_epoch=st.integers(1, 3),
    floor=st.sampled_from([0.0, 1e-6, 0.05]),
    whole_run=st.booleans(),
)
def test_cosine_matches_torch(*, epochs: int, per_epoch: int, floor: float, whole_run: bool) -> None:
    """Up to T_max epochs, or the run's end, cosine annealing agrees with torch's; then it stays constant."""
    steps = epochs * per_epoch
    total, period = (steps, None) if whole_run else (steps + 5, epochs)
    ours = cosine(optimizer(), total, per_epoch, T_max=period, eta_min=floor)
    torchs = CosineAnnealingLR(optimizer(), steps, floor)

    found = rates_over(ours, steps + 3)

    assert_close(found[: steps + 1], rates_over(torchs, steps))
    assert_close(found[steps:], [[floor, floor]] * 4)


@given(
    first=st.integers(1, 4),
    growth=st.integers(1, 3),
    per_epoch=st.integers(1, 3),
    floor=st.sampled_from([0.0, 1e-6, 0.05]),
    steps=st.integers(0, 40),
)
def test_warm_restarts_match_torch(*, first: int, growth: int, per_epoch: int, floor: float, steps: int) -> None:
    """Warm restarts agree with torch's at every step; periods are counted in epochs."""
    ours = warm_restarts(optimizer(), per_epoch, T_0=first, T_mult=growth, eta_min=floor)
    torchs = CosineAnnealingWarmRestarts(optimizer(), first * per_epoch, growth, floor)

    assert_close(rates_over(ours, steps), rates_over(torchs, steps))
