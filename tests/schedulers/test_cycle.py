"""Tests of the one-cycle schedule against torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import OneCycleLR

from dovetail.schedulers import one_cycle
from rates import assert_close, optimizer, rates_over


@pytest.mark.parametrize("kind", [SGD, AdamW])
@given(
    total=st.integers(2, 30),
    start=st.sampled_from([0.05, 0.3, 0.5, 0.9, 1.0]),
    shape=st.sampled_from(["cos", "linear"]),
    momentum=st.booleans(),
)
def test_one_cycle_matches_torch(*, kind: type, total: int, start: float, shape: str, momentum: bool) -> None:
    """Rates and momentum agree with torch's at every step of the run."""
    assume(start * total != 1)  # torch divides by zero there
    options = {"pct_start": start, "anneal_strategy": shape, "cycle_momentum": momentum}
    ours = one_cycle(kind([{"params": [torch.nn.Parameter(torch.ones(1))]}], lr=0.4), total, max_lr=0.2, **options)
    torchs = OneCycleLR(kind([torch.nn.Parameter(torch.ones(1))], lr=0.4), 0.2, total, **options)

    for update in range(total):
        for name in ("lr", "momentum", "betas"):
            if name in ours.optimizer.param_groups[0]:
                found, expected = (scheduler.optimizer.param_groups[0][name] for scheduler in (ours, torchs))
                assert found == pytest.approx(expected, rel=1e-9), f"{name} at update {update}"
        for scheduler in (ours, torchs):
            scheduler.optimizer.step()
            if update < total - 1:
                scheduler.step()


def test_one_cycle_peaks_at_each_groups_rate_and_ends_constant() -> None:
    """Without max_lr, the groups' own rates are the peaks; beyond the run, the rates stay."""
    found = rates_over(one_cycle(optimizer(), 11, pct_start=0.5), 14)

    assert max(rates[0] for rates in found) == pytest.approx(0.1, rel=0.05)
    assert all(rates[1] == pytest.approx(4 * rates[0]) for rates in found)
    assert_close(found[10:], [[0.1 / 25e4, 0.4 / 25e4]] * 5)


def test_one_cycle_restores_momentum() -> None:
    """Loading the state sets the momentum of a new optimizer."""
    first = one_cycle(optimizer(), 20)
    rates_over(first, 7)
    second = one_cycle(optimizer(), 20)

    second.load_state_dict(first.state_dict())

    assert second.optimizer.param_groups[0]["momentum"] == first.optimizer.param_groups[0]["momentum"]
    assert 0.85 < second.optimizer.param_groups[0]["momentum"] < 0.95
