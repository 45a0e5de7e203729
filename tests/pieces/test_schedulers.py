"""Schedulers created by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from dovetail.pieces import (
    PolynomialLRScheduler,
    WarmupCosineScheduler,
    create_scheduler,
    create_step_scheduler,
    get_scheduler,
)
from dovetail.schedulers import WarmupScheduler, noam, warmup_cosine, warmup_linear
from rates import assert_close, optimizer, rates_over


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("step", {}, lambda sgd: StepLR(sgd, 10, 0.1)),
        ("exponential", {}, lambda sgd: ExponentialLR(sgd, 0.95)),
        ("cosine", {"num_epochs": 12}, lambda sgd: CosineAnnealingLR(sgd, 12, 1e-6)),
        ("cosine_restarts", {}, lambda sgd: CosineAnnealingWarmRestarts(sgd, 10, 2, 1e-6)),
        ("onecycle", {"max_lr": 0.2, "total_steps": 20}, lambda sgd: OneCycleLR(sgd, 0.2, 20)),
        ("polynomial", {"total_epochs": 12, "min_lr": 0.0}, lambda sgd: PolynomialLR(sgd, 12, 2.0)),
        (
            "warmup_cosine",
            {"warmup_epochs": 3, "total_epochs": 10},
            lambda sgd: warmup_cosine(sgd, 10, 1, warmup=3, min_lr=1e-7),
        ),
        ("warmup_linear", {"warmup_epochs": 3, "total_epochs": 10}, lambda sgd: warmup_linear(sgd, 10, 1, warmup=3)),
        ("noam", {}, lambda sgd: noam(sgd, d_model=256, warmup_steps=4000)),
    ],
)
def test_schedulers_have_the_documented_defaults(name, options, expected) -> None:
    """``get_scheduler`` accepts the documents' two orders of arguments, and both names as keywords."""
    reference = rates_over(expected(optimizer()), 12)

    created = [
        get_scheduler(name, optimizer(), **options),
        get_scheduler(optimizer(), name, **options),
        get_scheduler(optimizer=optimizer(), scheduler_type=name, **options),
        create_scheduler(optimizer(), name, **options),
    ]

    for scheduler in created:
        assert_close(rates_over(scheduler, 12), reference)


def test_a_plateau_by_default_expects_a_metric_to_rise() -> None:
    """Its documented mode is max."""
    found = create_scheduler(optimizer(), "plateau")

    assert isinstance(found, ReduceLROnPlateau)
    assert (found.mode, found.factor, found.patience) == ("max", 0.1, 10)


def test_a_warmup_takes_the_other_scheduler() -> None:
    """The option is base_scheduler."""
    sgd = optimizer()

    found = get_scheduler("warmup", sgd, warmup_epochs=3, base_scheduler=create_step_scheduler(sgd))

    assert isinstance(found, WarmupScheduler)


@given(done=st.integers(0, 11))
def test_a_warmup_cosine_continues_after_last_epoch(done: int) -> None:
    """The meaning of ``last_epoch`` is that of torch's schedulers."""
    sgd = optimizer()
    whole = rates_over(WarmupCosineScheduler(sgd, 3, 10), 12)

    found = rates_over(WarmupCosineScheduler(sgd, 3, 10, last_epoch=done), 11 - done)

    assert_close(found, whole[done + 1 :])


@pytest.mark.parametrize(
    "create, error, message",
    [
        (lambda: PolynomialLRScheduler(optimizer(), 0), ValueError, "total_epochs: must be at least 1 epoch, got 0"),
        (
            lambda: get_scheduler("cosin", optimizer()),
            ValueError,
            "scheduler_type: unknown scheduler 'cosin'; did you mean 'cosine'",
        ),
        (
            lambda: create_scheduler(optimizer(), "cosine", T_max=5),
            ValueError,
            "cosine has no option 'T_max'; it has num_epochs, eta_min",
        ),
        (
            lambda: get_scheduler(optimizer(), "noam", warmup_step=5),
            ValueError,
            "noam has no option 'warmup_step'; did you mean 'warmup_steps'",
        ),
        (
            lambda: get_scheduler(optimizer(), optimizer()),
            TypeError,
            "scheduler_type: expected a name such as 'step', got SGD",
        ),
    ],
)
def test_an_unknown_name_or_option_is_refused(create, error, message) -> None:
    """The message suggests the nearest name."""
    with pytest.raises(error, match=message):
        create()
