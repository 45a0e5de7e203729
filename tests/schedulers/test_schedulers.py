"""Schedulers against torch and hand-written formulas; state at any step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim import SGD, Adagrad, AdamW
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from dovetail.main import run
from dovetail.pieces import schedulers as create
from dovetail.pieces import transformer_schedulers as transformer
from dovetail.schedulers.cosine import cosine
from dovetail.schedulers.exponential import exponential
from dovetail.schedulers.linear_warmup import linear_warmup
from dovetail.schedulers.noam import noam
from dovetail.schedulers.one_cycle import one_cycle
from dovetail.schedulers.plateau import plateau
from dovetail.schedulers.polynomial import polynomial
from dovetail.schedulers.step import step
from dovetail.schedulers.warm_restarts import warm_restarts
from dovetail.schedulers.warmup import Epochs, Warmup, warmup_steps
from dovetail.schedulers.warmup_cosine import warmup_cosine
from dovetail.schedulers.warmup_linear import warmup_linear
from dovetail.schedulers.with_warmup import WarmupPlateau, WarmupScheduler, with_warmup
from dovetail.train.phases import Schedule
from small_runs import only_run, small

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


@given(
    first=st.integers(1, 4),
    growth=st.integers(1, 3),
    per_epoch=st.integers(1, 3),
    floor=st.sampled_from([0.0, 1e-6, 0.05]),
    steps=st.integers(0, 40),
)
def test_warm_restarts_are_torchs(*, first: int, growth: int, per_epoch: int, floor: float, steps: int) -> None:
    """Warm restarts agree with torch's at every step, periods counted in epochs."""
    ours = warm_restarts(optimizer(), per_epoch, T_0=first, T_mult=growth, eta_min=floor)
    torchs = CosineAnnealingWarmRestarts(optimizer(), first * per_epoch, growth, floor)

    close(rates_over(ours, steps), rates_over(torchs, steps))


@given(
    epochs=st.integers(1, 8), per_epoch=st.integers(1, 3), power=st.sampled_from([0.5, 1.0, 2.0]), whole=st.booleans()
)
def test_polynomial_is_torchs(*, epochs: int, per_epoch: int, power: float, whole: bool) -> None:
    """Without a floor, polynomial decay agrees with torch's, and stays at the end where that is."""
    steps = epochs * per_epoch
    total, length = (steps, None) if whole else (steps + 5, epochs)
    ours = polynomial(optimizer(), total, per_epoch, total_epochs=length, power=power, min_lr=0.0)

    close(rates_over(ours, steps + 3), rates_over(PolynomialLR(optimizer(), steps, power), steps + 3))


@pytest.mark.parametrize("kind", [SGD, AdamW])
@given(
    total=st.integers(2, 30),
    start=st.sampled_from([0.05, 0.3, 0.5, 0.9, 1.0]),
    shape=st.sampled_from(["cos", "linear"]),
    momentum=st.booleans(),
)
def test_one_cycle_is_torchs(*, kind: type, total: int, start: float, shape: str, momentum: bool) -> None:
    """Rates and momentum agree with torch's at every step of the run."""
    assume(start * total != 1)  # torch divides by zero there
    options = {"pct_start": start, "anneal_strategy": shape, "cycle_momentum": momentum}
    ours = one_cycle(kind([{"params": [torch.nn.Parameter(torch.ones(1))]}], lr=0.4), total, max_lr=0.2, **options)
    torchs = OneCycleLR(kind([torch.nn.Parameter(torch.ones(1))], lr=0.4), 0.2, total, **options)

    for place in range(total):
        for name in ("lr", "momentum", "betas"):
            if name in ours.optimizer.param_groups[0]:
                found, expected = (one.optimizer.param_groups[0][name] for one in (ours, torchs))
                assert found == pytest.approx(expected, rel=1e-9), f"{name} at step {place}"
        for one in (ours, torchs):
            one.optimizer.step()
            if place < total - 1:
                one.step()


def test_one_cycle_takes_each_groups_own_rate_and_stays_at_its_end() -> None:
    """Without max_lr the peaks are the groups' rates; beyond the run nothing moves."""
    found = rates_over(one_cycle(optimizer(), 11, pct_start=0.5), 14)

    assert max(rates[0] for rates in found) == pytest.approx(0.1, rel=0.05)
    assert all(rates[1] == pytest.approx(4 * rates[0]) for rates in found)
    close(found[10:], [[0.1 / 25e4, 0.4 / 25e4]] * 5)


def test_one_cycle_sets_momentum_when_resumed() -> None:
    """Loaded into a new optimizer, momentum is where it was, too."""
    first = one_cycle(optimizer(), 20)
    rates_over(first, 7)
    second = one_cycle(optimizer(), 20)

    second.load_state_dict(first.state_dict())

    assert second.optimizer.param_groups[0]["momentum"] == first.optimizer.param_groups[0]["momentum"]
    assert 0.85 < second.optimizer.param_groups[0]["momentum"] < 0.95


# --- a warm-up around others ------------------------------------------------------------------------------------

AROUND: list[Callable[[SGD], LRScheduler]] = [
    lambda one: StepLR(one, 2, 0.5),
    lambda one: ExponentialLR(one, 0.7),
    lambda one: MultiStepLR(one, [3, 5], 0.1),
    lambda one: step(one, step_size=2, gamma=0.5),
    lambda one: cosine(one, 12, 1),
    lambda one: warm_restarts(one, 1, T_0=2),
]


@given(build=st.sampled_from(AROUND), warm=st.integers(0, 6), steps=st.integers(0, 12))
def test_a_warmup_multiplies_the_other_schedule(build: Callable[[SGD], LRScheduler], warm: int, steps: int) -> None:
    """Around any scheduler the rate is that scheduler's, times a line from 1/(w + 1) to 1."""
    alone = rates_over(build(optimizer()), steps)
    one = optimizer()

    found = rates_over(WarmupScheduler(one, warm, build(one)), steps)

    factors = [min(1.0, (place + 1) / (warm + 1)) for place in range(steps + 1)]
    close(found, [[rate * factor for rate in rates] for rates, factor in zip(alone, factors, strict=True)])


@given(warm=st.integers(1, 6), steps=st.integers(0, 12))
def test_a_warmup_is_torchs_chain(warm: int, steps: int) -> None:
    """It is what torch's LinearLR and the other scheduler are together, chained."""
    one, other = optimizer(), optimizer()
    chained = ChainedScheduler([LinearLR(other, 1 / (warm + 1), 1.0, warm), ExponentialLR(other, 0.8)])
    found = rates_over(WarmupScheduler(one, warm, ExponentialLR(one, 0.8)), steps)

    expected = [[group["lr"] for group in other.param_groups]]
    for _ in range(steps):
        other.step()
        chained.step()
        expected.append([group["lr"] for group in other.param_groups])
    close(found, expected)


def test_a_warmup_around_a_plateau_takes_its_metric() -> None:
    """The run steps it with the metric; the reduction is of the plateau's own rate, not of the warmed-up one."""
    one = optimizer((0.8,))
    made = with_warmup(one, 10, 1, warmup=3, base_scheduler=plateau(one, factor=0.5, patience=0))
    schedule = Schedule(made, monitor="val_loss")

    found = [one.param_groups[0]["lr"]]
    for value in (1.0, 2.0, 0.5, 0.4):
        one.step()
        schedule.after_epoch({"val_loss": value})
        found.append(one.param_groups[0]["lr"])

    assert isinstance(made, WarmupPlateau)
    assert schedule.per_epoch
    assert found == pytest.approx([0.2, 0.4, 0.3, 0.4, 0.4])


def test_a_warmup_fills_a_tensor_rate_in_place() -> None:
    """A capturable optimizer's rate is a tensor, which is filled and never replaced."""
    rate = torch.tensor(0.1, dtype=torch.float64)
    one = SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)
    held = one.param_groups[0]["lr"]

    rates_over(WarmupScheduler(one, 3, step(one, step_size=100)), 1)

    assert one.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.05)


def test_the_state_of_a_warmup_fits_its_own_groups_only() -> None:
    """A state saved for two groups does not fit an optimizer with one."""
    two, one = optimizer(), optimizer((0.1,))
    saved = WarmupScheduler(two, 3, step(two)).state_dict()

    with pytest.raises(ValueError, match="saved for 2 parameter groups, but the optimizer has 1"):
        WarmupScheduler(one, 3, step(one)).load_state_dict(saved)


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


@given(total=st.integers(1, 30), warm=st.integers(0, 30))
def test_warmup_linear_is_berts(total: int, warm: int) -> None:
    """It is the published lambda of Hugging Face's get_linear_schedule_with_warmup, which begins at 0, a step later."""
    warm = min(warm, total)

    def published(step: int, warmup: int, training: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        return max(0.0, (training - step) / max(1, training - warmup))

    found = rates_over(warmup_linear(optimizer(), total, 1, warmup=warm), total + 2)

    # With warm = total the published end is one step after its peak, ours at it.
    steps = range(total + 3) if warm < total else range(total)
    close(
        [found[place] for place in steps],
        [[base * published(place + 1, warm + 1, total + 1) for base in RATES] for place in steps],
    )


@given(width=st.integers(1, 1024), warm=st.integers(1, 40), steps=st.integers(0, 60))
def test_noam_is_the_papers(width: int, warm: int, steps: int) -> None:
    """The rate is lr · d_model^-0.5 · min(n^-0.5, n · warmup^-1.5), and highest at n = warmup."""
    found = [rates[0] for rates in rates_over(noam(optimizer((2.0,)), d_model=width, warmup_steps=warm), steps)]

    expected = [2.0 / math.sqrt(width) * min(1 / math.sqrt(n), n / math.sqrt(warm**3)) for n in range(1, steps + 2)]
    assert found == pytest.approx(expected, rel=1e-12)
    if steps + 1 >= warm:
        assert found.index(max(found)) == warm - 1


@given(total=st.integers(1, 20), floor=st.sampled_from([1e-7, 0.05]))
def test_polynomial_ends_at_its_floor(total: int, floor: float) -> None:
    """The rate is floor + (base - floor) · (1 - t/T)^2 by default."""
    found = rates_over(polynomial(optimizer(), total, 1, min_lr=floor), total + 1)

    left = [max(1 - place / total, 0) ** 2 for place in range(total + 2)]
    close(found, [[floor + (base - floor) * one for base in RATES] for one in left])


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
        (lambda: warm_restarts(optimizer(), 1, T_0=0), "T_0: must be at least 1, got 0"),
        (lambda: warm_restarts(optimizer(), 1, T_mult=0), "T_mult: must be at least 1, got 0"),
        (lambda: warm_restarts(optimizer(), 1, eta_min=-1.0), "eta_min: must be at least 0, got -1"),
        (lambda: polynomial(optimizer(), 9, 1, total_epochs=0), "total_epochs: must be at least 1 epoch, got 0"),
        (lambda: polynomial(optimizer(), 9, 1, power=0.0), "power: must be above 0, got 0"),
        (lambda: polynomial(optimizer(), 9, 1, min_lr=-1.0), "min_lr: must be at least 0, got -1"),
        (lambda: polynomial(optimizer(), 9, 1, min_lr=1.0), "min_lr: 1 is above the optimizer's learning rate"),
        (lambda: noam(optimizer(), d_model=0), "d_model: must be at least 1, got 0"),
        (lambda: noam(optimizer(), warmup_steps=0), "warmup_steps: must be at least 1, got 0"),
        (lambda: one_cycle(optimizer(), 9, max_lr=0.0), "max_lr: must be above 0, got 0"),
        (lambda: one_cycle(optimizer(), 9, pct_start=1.5), "pct_start: must be between 0 and 1, got 1.5"),
        (lambda: one_cycle(optimizer(), 9, div_factor=0.5), "div_factor: must be at least 1, got 0.5"),
        (
            lambda: one_cycle(Adagrad([torch.nn.Parameter(torch.ones(1))]), 9),
            "cycle_momentum: Adagrad has no momentum to move; set cycle_momentum = false",
        ),
        (lambda: warmup_linear(optimizer(), 9, 1, warmup=10), "warmup: 10 steps is longer than the run"),
        (lambda: WarmupScheduler(optimizer(), -1, None), "warmup_epochs: must be at least 0, got -1"),
        (lambda: create.PolynomialLRScheduler(optimizer(), 0), "total_epochs: must be at least 1 epoch, got 0"),
        (lambda: create.get_scheduler("cosin", optimizer()), "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        (lambda: transformer.get_scheduler(optimizer(), "x"), "unknown scheduler 'x'; there are warmup_cosine, warm"),
        (
            lambda: create.create_scheduler(optimizer(), "cosine", T_max=5),
            "cosine has no option 'T_max'; it has num_epochs, eta_min",
        ),
        (
            lambda: transformer.get_scheduler(optimizer(), "noam", warmup_step=5),
            "noam has no option 'warmup_step'; did you mean 'warmup_steps'",
        ),
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
    lambda one: warm_restarts(one, 1, T_0=2),
    lambda one: polynomial(one, 10, 1),
    lambda one: warmup_linear(one, 10, 1, warmup=3),
    lambda one: noam(one, warmup_steps=4),
    lambda one: one_cycle(one, 10),
    lambda one: WarmupScheduler(one, 4, StepLR(one, 3, 0.7)),
    lambda one: WarmupScheduler(one, 4, cosine(one, 10, 1)),
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


# --- by name ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("step", {}, lambda one: StepLR(one, 10, 0.1)),
        ("exponential", {}, lambda one: ExponentialLR(one, 0.95)),
        ("cosine", {"num_epochs": 12}, lambda one: CosineAnnealingLR(one, 12, 1e-6)),
        ("cosine_restarts", {}, lambda one: CosineAnnealingWarmRestarts(one, 10, 2, 1e-6)),
        ("onecycle", {"max_lr": 0.2, "total_steps": 20}, lambda one: OneCycleLR(one, 0.2, 20)),
        ("polynomial", {"total_epochs": 12, "min_lr": 0.0}, lambda one: PolynomialLR(one, 12, 2.0)),
    ],
)
def test_schedulers_by_name_have_the_documented_defaults(name, options, expected) -> None:
    """What the factory makes is torch's with the documented defaults, by either of its two names."""
    reference = rates_over(expected(optimizer()), 12)

    close(rates_over(create.get_scheduler(name, optimizer(), **options), 12), reference)
    close(rates_over(create.create_scheduler(optimizer(), name, **options), 12), reference)


def test_a_plateau_by_name_waits_for_a_metric_to_rise() -> None:
    """The bare function keeps the documented mode."""
    found = create.create_scheduler(optimizer(), "plateau")

    assert isinstance(found, ReduceLROnPlateau)
    assert (found.mode, found.factor, found.patience) == ("max", 0.1, 10)


def test_a_warmup_by_name() -> None:
    """The wrapper can be had by name, too."""
    one = optimizer()

    found = create.get_scheduler("warmup", one, warmup_epochs=3, base_scheduler=create.create_step_scheduler(one))

    assert isinstance(found, WarmupScheduler)


@pytest.mark.parametrize(
    "name, options, expected",
    [
        (
            "warmup_cosine",
            {"warmup_epochs": 3, "total_epochs": 10},
            lambda one: warmup_cosine(one, 10, 1, warmup=3, min_lr=1e-7),
        ),
        ("warmup_linear", {"warmup_epochs": 3, "total_epochs": 10}, lambda one: warmup_linear(one, 10, 1, warmup=3)),
        ("noam", {}, lambda one: noam(one, d_model=256, warmup_steps=4000)),
    ],
)
def test_schedules_of_transformers_by_name(name, options, expected) -> None:
    """The factory makes the part's schedule with the documented defaults."""
    close(
        rates_over(transformer.get_scheduler(optimizer(), name, **options), 12), rates_over(expected(optimizer()), 12)
    )


@given(done=st.integers(0, 11))
def test_a_warmup_cosine_begins_after_the_last_epoch_it_is_told(done: int) -> None:
    """With last_epoch it goes on from there, as torch's schedulers do."""
    one = optimizer()
    whole = rates_over(transformer.WarmupCosineScheduler(one, 3, 10), 12)

    found = rates_over(transformer.WarmupCosineScheduler(one, 3, 10, last_epoch=done), 11 - done)

    close(found, whole[done + 1 :])


# --- in a run ---------------------------------------------------------------------------------------------------


def test_a_run_file_can_put_a_warmup_around_a_plateau(tmp_path) -> None:
    """The rate rises over the first epochs, and is halved when the metric does not get below 0."""
    scheduler = {
        "type": "with_warmup",
        "warmup": 2,
        "monitor": "train_loss",
        "base_scheduler": {"type": "plateau", "patience": 0, "factor": 0.5, "threshold": 10.0, "threshold_mode": "abs"},
    }

    outcome = run(small(tmp_path, scheduler=scheduler, training={"max_epochs": 4})).check()

    lines = (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
    rates = [one["metrics"]["lr"] for one in map(json.loads, lines) if one["event"] == "epoch"]
    # The log shows the rate that an epoch ended with, before the scheduler's step.
    assert outcome.status == "completed"
    assert rates == pytest.approx([0.01 / 3, 0.02 / 3, 0.005, 0.0025])
