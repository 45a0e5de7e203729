"""Schedulers against torch and hand-written formulas; state at any step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from dovetail.schedulers.cosine import cosine
from dovetail.schedulers.exponential import exponential
from dovetail.schedulers.linear_warmup import linear_warmup
from dovetail.schedulers.plateau import plateau
from dovetail.schedulers.step import step
from dovetail.schedulers.warmup import Epochs, Warmup, warmup_steps
from dovetail.schedulers.warmup_cosine import warmup_cosine

RATES = (0.1, 0.4)


def optimizer(rates: tuple[float, ...] = RATES) -> SGD:
    """Return an optimizer with one group per rate."""
    return SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates])


def rates_over(scheduler: LRScheduler, steps: int) -> list[list[float]]:
    """Return the rates of all groups before the first step and after each."""
    found = [[group["lr"] for group in scheduler.optimizer.param_groups]]
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step()
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
    return found


def close(found: list[list[float]], expected: list[list[float]]) -> None:
    """Assert that two tables of rates agree to rounding."""
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


# --- against torch ----------------------------------------------------------------------------------------------


@given(size=st.integers(1, 5), gamma=st.floats(0.05, 1.5), steps=st.integers(0, 20))
def test_step_is_torchs(size: int, gamma: float, steps: int) -> None:
    """Step decay agrees with torch's at every step."""
    ours, torchs = step(optimizer(), step_size=size, gamma=gamma), StepLR(optimizer(), size, gamma)

    close(rates_over(ours, steps), rates_over(torchs, steps))


@given(gamma=st.floats(0.05, 1.5), steps=st.integers(0, 20))
def test_exponential_is_torchs(gamma: float, steps: int) -> None:
    """Exponential decay agrees with torch's at every step."""
    close(
        rates_over(exponential(optimizer(), gamma=gamma), steps), rates_over(ExponentialLR(optimizer(), gamma), steps)
    )


@given(
    epochs=st.integers(1, 12),
    per_epoch=st.integers(1, 3),
    floor=st.sampled_from([0.0, 1e-6, 0.05]),
    whole_run=st.booleans(),
)
def test_cosine_is_torchs(*, epochs: int, per_epoch: int, floor: float, whole_run: bool) -> None:
    """Up to T_max epochs, or the run's end, cosine annealing agrees with torch's; after that it stays where it is."""
    steps = epochs * per_epoch
    total, period = (steps, None) if whole_run else (steps + 5, epochs)
    ours = cosine(optimizer(), total, per_epoch, T_max=period, eta_min=floor)
    torchs = CosineAnnealingLR(optimizer(), steps, floor)

    found = rates_over(ours, steps + 3)

    close(found[: steps + 1], rates_over(torchs, steps))
    close(found[steps:], [[floor, floor]] * 4)


def test_plateau_is_torchs() -> None:
    """The factory hands its options to torch's own class, and keeps torch's defaults."""
    found = plateau(optimizer(), mode="max", factor=0.5, patience=0, min_lr=0.15)

    assert type(found) is ReduceLROnPlateau
    for value in (1.0, 0.5, 0.4):
        found.optimizer.step()
        found.step(value)
    assert [group["lr"] for group in found.optimizer.param_groups] == [0.1, 0.15]
    reference = ReduceLROnPlateau(optimizer()).state_dict()
    assert plateau(optimizer()).state_dict() == reference


# --- against formulas -------------------------------------------------------------------------------------------


@given(total=st.integers(1, 30), warm=st.integers(0, 30), floor=st.sampled_from([0.0, 1e-7, 0.05]))
def test_warmup_cosine_is_its_formula(total: int, warm: int, floor: float) -> None:
    """The rate rises as (t + 1)/(w + 1), is the base at t = w, then half a cosine down to the floor at the end."""
    warm = min(warm, total)

    found = rates_over(warmup_cosine(optimizer(), total, 1, warmup=warm, min_lr=floor), total + 2)

    for place, rates in enumerate(found):
        for rate, base in zip(rates, RATES, strict=True):
            if place < warm:
                expected = base * (place + 1) / (warm + 1)
            else:
                share = min((place - warm) / max(total - warm, 1), 1)
                expected = floor + (base - floor) * (1 + math.cos(math.pi * share)) / 2
            assert rate == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(total=st.integers(1, 20), share=st.floats(0, 1))
def test_linear_warmup_rises_and_stays(total: int, share: float) -> None:
    """The rate is above 0 from the first update, never falls, and is the base from the end of the warm-up on."""
    warm = round(share * total)

    found = [rates[0] for rates in rates_over(linear_warmup(optimizer((0.1,)), total, 1, warmup=share), total)]

    assert found[0] > 0
    assert found == sorted(found)
    assert found[warm:] == pytest.approx([0.1] * (total + 1 - warm))


@pytest.mark.parametrize(
    "warmup, expected",
    [
        (0.1, 10),
        (0.0, 0),
        (1.0, 100),
        (0, 0),
        (1, 1),
        (100, 100),
        (Epochs(2), 40),
        (Epochs(0.5), 10),
        (Epochs(0), 0),
    ],
)
def test_a_warmup_is_a_share_steps_or_epochs(warmup: Warmup, expected: int) -> None:
    """Of 100 steps, 20 per epoch: a float is a share, an integer steps, a table epochs."""
    assert warmup_steps(warmup, 100, 20) == expected


@pytest.mark.parametrize(
    "warmup, message",
    [
        (3.0, "warmup: a fraction must be between 0 and 1, got 3; for steps, write an integer"),
        (-0.1, "warmup: a fraction must be between 0 and 1, got -0.1"),
        (-5, "warmup: must be at least 0, got -5 steps"),
        (101, "warmup: 101 steps is longer than the run, which has 100 steps"),
        (Epochs(6), "warmup: 6 epochs is longer than the run, which has 100 steps"),
    ],
)
def test_a_warmup_that_does_not_fit_is_named(warmup: Warmup, message: str) -> None:
    """Too long, negative, or more than a whole: refused with what was said."""
    with pytest.raises(ValueError, match=message):
        warmup_cosine(optimizer(), 100, 20, warmup=warmup)


def test_negative_epochs_are_refused_by_the_type() -> None:
    """The table's own class checks itself, so that a config can be checked without a run."""
    with pytest.raises(ValueError, match="epochs: must be at least 0, got -1"):
        Epochs(-1)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: step(optimizer(), step_size=0), "step_size: must be at least 1, got 0"),
        (lambda: step(optimizer(), gamma=0.0), "gamma: must be above 0, got 0"),
        (lambda: exponential(optimizer(), gamma=-1.0), "gamma: must be above 0, got -1"),
        (lambda: cosine(optimizer(), 9, 1, T_max=0), "T_max: must be at least 1 epoch, got 0"),
        (lambda: cosine(optimizer(), 9, 1, eta_min=-1.0), "eta_min: must be at least 0, got -1"),
        (lambda: cosine(optimizer(), 9, 1, eta_min=0.5), "eta_min: 0.5 is above the optimizer's learning rate 0.4"),
        (lambda: warmup_cosine(optimizer(), 9, 1, min_lr=-1.0), "min_lr: must be at least 0, got -1"),
        (lambda: warmup_cosine(optimizer(), 9, 1, min_lr=1.0), "min_lr: 1 is above the optimizer's learning rate"),
        (lambda: plateau(optimizer(), factor=1.0), "factor: must be at least 0 and below 1, got 1"),
    ],
)
def test_bad_options_are_named(build: Callable[[], LRScheduler], message: str) -> None:
    """What cannot be built is refused by the name of the option."""
    with pytest.raises(ValueError, match=message):
        build()


# --- state ------------------------------------------------------------------------------------------------------

ALL: list[Callable[[SGD], LRScheduler]] = [
    lambda one: step(one, step_size=2, gamma=0.5),
    lambda one: exponential(one, gamma=0.7),
    lambda one: cosine(one, 10, 1),
    lambda one: warmup_cosine(one, 10, 1, warmup=0.3),
    lambda one: linear_warmup(one, 10, 1, warmup=4),
]


@given(build=st.sampled_from(ALL), done=st.integers(0, 12), more=st.integers(0, 6))
def test_state_goes_through_json_at_any_step(build: Callable[[SGD], LRScheduler], done: int, more: int) -> None:
    """Saved as JSON at any step and loaded beside a new optimizer, the rates go on to the last bit."""
    first = build(optimizer())
    rates_over(first, done)
    saved = json.loads(json.dumps(first.state_dict()))

    second = build(optimizer())
    second.load_state_dict(saved)

    assert second.get_last_lr() == first.get_last_lr()
    assert rates_over(second, more) == rates_over(first, more)
    assert second.state_dict() == first.state_dict()


def test_state_of_other_groups_is_refused() -> None:
    """A state saved for two groups does not fit an optimizer with one."""
    saved = step(optimizer()).state_dict()

    with pytest.raises(ValueError, match="saved for 2 parameter groups, but the optimizer has 1"):
        step(optimizer((0.1,))).load_state_dict(saved)


def test_a_tensor_rate_is_set_in_place() -> None:
    """A capturable optimizer's rate is a tensor, which a scheduler fills and never replaces."""
    rate = torch.tensor(0.1)
    one = SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)
    held = one.param_groups[0]["lr"]

    rates_over(step(one, step_size=1, gamma=0.5), 2)

    assert one.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.025)
