"""Tests of a warm-up around other schedulers."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR, LinearLR, LRScheduler, MultiStepLR, StepLR

from dovetail.main import run
from dovetail.schedulers import WarmupPlateau, WarmupScheduler, cosine, plateau, step, warm_restarts, with_warmup
from dovetail.train.phases import Schedule
from rates import assert_close, optimizer, rates_over
from small_runs import only_run, small

AROUND: list[Callable[[SGD], LRScheduler]] = [
    lambda sgd: StepLR(sgd, 2, 0.5),
    lambda sgd: ExponentialLR(sgd, 0.7),
    lambda sgd: MultiStepLR(sgd, [3, 5], 0.1),
    lambda sgd: step(sgd, step_size=2, gamma=0.5),
    lambda sgd: cosine(sgd, 12, 1),
    lambda sgd: warm_restarts(sgd, 1, T_0=2),
]


@given(build=st.sampled_from(AROUND), warm=st.integers(0, 6), steps=st.integers(0, 12))
def test_a_warmup_multiplies_the_other_schedule(build: Callable[[SGD], LRScheduler], warm: int, steps: int) -> None:
    """The rate is the other scheduler's, times a factor that rises linearly from 1/(w + 1) to 1."""
    alone = rates_over(build(optimizer()), steps)
    sgd = optimizer()

    found = rates_over(WarmupScheduler(sgd, warm, build(sgd)), steps)

    factors = [min(1.0, (step + 1) / (warm + 1)) for step in range(steps + 1)]
    assert_close(found, [[rate * factor for rate in rates] for rates, factor in zip(alone, factors, strict=True)])


@given(warm=st.integers(1, 6), steps=st.integers(0, 12))
def test_a_warmup_matches_torchs_chained_scheduler(warm: int, steps: int) -> None:
    """Torch chains LinearLR with the other scheduler."""
    sgd, chained_sgd = optimizer(), optimizer()
    chained = ChainedScheduler([LinearLR(chained_sgd, 1 / (warm + 1), 1.0, warm), ExponentialLR(chained_sgd, 0.8)])
    found = rates_over(WarmupScheduler(sgd, warm, ExponentialLR(sgd, 0.8)), steps)

    expected = [[group["lr"] for group in chained_sgd.param_groups]]
    for _ in range(steps):
        chained_sgd.step()
        chained.step()
        expected.append([group["lr"] for group in chained_sgd.param_groups])
    assert_close(found, expected)


def test_a_warmup_around_a_plateau_steps_with_its_metric() -> None:
    """The plateau reduces its own rate, before the factor."""
    sgd = optimizer((0.8,))
    made = with_warmup(sgd, 10, 1, warmup=3, base_scheduler=plateau(sgd, factor=0.5, patience=0))
    schedule = Schedule(made, monitor="val_loss")

    found = [sgd.param_groups[0]["lr"]]
    for value in (1.0, 2.0, 0.5, 0.4):
        sgd.step()
        schedule.after_epoch({"val_loss": value})
        found.append(sgd.param_groups[0]["lr"])

    assert isinstance(made, WarmupPlateau)
    assert schedule.per_epoch
    assert found == pytest.approx([0.2, 0.4, 0.3, 0.4, 0.4])


def test_a_warmup_fills_a_tensor_rate_in_place() -> None:
    """A capturable optimizer's learning rate is a tensor."""
    rate = torch.tensor(0.1, dtype=torch.float64)
    sgd = SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)
    held = sgd.param_groups[0]["lr"]

    rates_over(WarmupScheduler(sgd, 3, step(sgd, step_size=100)), 1)

    assert sgd.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.05)


def test_a_state_for_other_groups_is_refused() -> None:
    """A state saved for two groups does not fit an optimizer with one group."""
    two_groups, one_group = optimizer(), optimizer((0.1,))
    saved = WarmupScheduler(two_groups, 3, step(two_groups)).state_dict()

    with pytest.raises(ValueError, match="saved for 2 parameter groups, but the optimizer has 1"):
        WarmupScheduler(one_group, 3, step(one_group)).load_state_dict(saved)


def test_a_run_can_put_a_warmup_around_a_plateau(tmp_path) -> None:
    """The rate rises during the warm-up, then halves at each epoch without improvement."""
    scheduler = {
        "type": "with_warmup",
        "warmup": 2,
        "monitor": "train_loss",
        "base_scheduler": {"type": "plateau", "patience": 0, "factor": 0.5, "threshold": 10.0, "threshold_mode": "abs"},
    }

    outcome = run(small(tmp_path, scheduler=scheduler, training={"max_epochs": 4})).check()

    lines = (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
    rates = [event["metrics"]["lr"] for event in map(json.loads, lines) if event["event"] == "epoch"]
    # The log shows the rate at the end of each epoch, before the scheduler's step.
    assert outcome.status == "completed"
    assert rates == pytest.approx([0.01 / 3, 0.02 / 3, 0.005, 0.0025])
