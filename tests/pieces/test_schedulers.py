"""Tests of creating schedulers by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from dovetail.pieces import schedulers as create
from dovetail.schedulers import WarmupScheduler
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
    ],
)
def test_schedulers_by_name_have_the_documented_defaults(name, options, expected) -> None:
    """Both functions return torch's schedule with the documented defaults."""
    reference = rates_over(expected(optimizer()), 12)

    assert_close(rates_over(create.get_scheduler(name, optimizer(), **options), 12), reference)
    assert_close(rates_over(create.create_scheduler(optimizer(), name, **options), 12), reference)


def test_a_plateau_by_name_expects_a_metric_to_rise() -> None:
    """Its documented mode is max."""
    found = create.create_scheduler(optimizer(), "plateau")

    assert isinstance(found, ReduceLROnPlateau)
    assert (found.mode, found.factor, found.patience) == ("max", 0.1, 10)


def test_a_warmup_by_name() -> None:
    """It takes the other scheduler as base_scheduler."""
    sgd = optimizer()

    found = create.get_scheduler("warmup", sgd, warmup_epochs=3, base_scheduler=create.create_step_scheduler(sgd))

    assert isinstance(found, WarmupScheduler)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: create.PolynomialLRScheduler(optimizer(), 0), "total_epochs: must be at least 1 epoch, got 0"),
        (lambda: create.get_scheduler("cosin", optimizer()), "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        (
            lambda: create.create_scheduler(optimizer(), "cosine", T_max=5),
            "cosine has no option 'T_max'; it has num_epochs, eta_min",
        ),
    ],
)
def test_an_unknown_name_or_option_is_refused(build: Callable[[], LRScheduler], message: str) -> None:
    """The message suggests the nearest name."""
    with pytest.raises(ValueError, match=message):
        build()
