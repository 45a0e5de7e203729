"""Tests of all schedulers: refused options, state at any step, and the public namespace."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Adagrad
from torch.optim.lr_scheduler import LRScheduler, StepLR

from dovetail import schedulers
from dovetail.schedulers import (
    WarmupScheduler,
    cosine,
    exponential,
    linear_warmup,
    noam,
    one_cycle,
    plateau,
    polynomial,
    step,
    warm_restarts,
    warmup_cosine,
    warmup_linear,
)
from rates import optimizer, rates_over


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: step(optimizer(), step_size=0), "step_size: must be at least 1, got 0"),
        (lambda: step(optimizer(), gamma=0.0), "gamma: must be more than 0, got 0"),
        (lambda: exponential(optimizer(), gamma=-1.0), "gamma: must be more than 0, got -1"),
        (lambda: cosine(optimizer(), 9, 1, T_max=0), "T_max: must be at least 1 epoch, got 0"),
        (lambda: cosine(optimizer(), 9, 1, eta_min=-1.0), "eta_min: must be at least 0, got -1"),
        (lambda: cosine(optimizer(), 9, 1, eta_min=0.5), "eta_min: 0.5 is above the optimizer's learning rate 0.4"),
        (lambda: warmup_cosine(optimizer(), 9, 1, min_lr=-1.0), "min_lr: must be at least 0, got -1"),
        (lambda: warmup_cosine(optimizer(), 9, 1, min_lr=1.0), "min_lr: 1 is above the optimizer's learning rate"),
        (lambda: warm_restarts(optimizer(), 1, T_0=0), "T_0: must be at least 1, got 0"),
        (lambda: warm_restarts(optimizer(), 1, T_mult=0), "T_mult: must be at least 1, got 0"),
        (lambda: warm_restarts(optimizer(), 1, eta_min=-1.0), "eta_min: must be at least 0, got -1"),
        (lambda: polynomial(optimizer(), 9, 1, total_epochs=0), "total_epochs: must be at least 1 epoch, got 0"),
        (lambda: polynomial(optimizer(), 9, 1, power=0.0), "power: must be more than 0, got 0"),
        (lambda: polynomial(optimizer(), 9, 1, min_lr=-1.0), "min_lr: must be at least 0, got -1"),
        (lambda: polynomial(optimizer(), 9, 1, min_lr=1.0), "min_lr: 1 is above the optimizer's learning rate"),
        (lambda: noam(optimizer(), d_model=0), "d_model: must be at least 1, got 0"),
        (lambda: noam(optimizer(), warmup_steps=0), "warmup_steps: must be at least 1, got 0"),
        (lambda: one_cycle(optimizer(), 9, max_lr=0.0), "max_lr: must be more than 0, got 0"),
        (lambda: one_cycle(optimizer(), 9, pct_start=1.5), "pct_start: must be between 0 and 1, got 1.5"),
        (lambda: one_cycle(optimizer(), 9, div_factor=0.5), "div_factor: must be at least 1, got 0.5"),
        (
            lambda: one_cycle(Adagrad([torch.nn.Parameter(torch.ones(1))]), 9),
            "cycle_momentum: Adagrad has no momentum to move; set cycle_momentum = false",
        ),
        (lambda: warmup_linear(optimizer(), 9, 1, warmup=10), "warmup: 10 steps is longer than the run"),
        (lambda: WarmupScheduler(optimizer(), -1, None), "warmup_epochs: must be at least 0, got -1"),
        (lambda: plateau(optimizer(), factor=1.0), "factor: must be at least 0 and below 1, got 1"),
    ],
)
def test_bad_options_are_refused(build: Callable[[], LRScheduler], message: str) -> None:
    """The message names the option."""
    with pytest.raises(ValueError, match=message):
        build()


ALL: list[Callable[[SGD], LRScheduler]] = [
    lambda sgd: step(sgd, step_size=2, gamma=0.5),
    lambda sgd: exponential(sgd, gamma=0.7),
    lambda sgd: cosine(sgd, 10, 1),
    lambda sgd: warmup_cosine(sgd, 10, 1, warmup=0.3),
    lambda sgd: linear_warmup(sgd, 10, 1, warmup=4),
    lambda sgd: warm_restarts(sgd, 1, T_0=2),
    lambda sgd: polynomial(sgd, 10, 1),
    lambda sgd: warmup_linear(sgd, 10, 1, warmup=3),
    lambda sgd: noam(sgd, warmup_steps=4),
    lambda sgd: one_cycle(sgd, 10),
    lambda sgd: WarmupScheduler(sgd, 4, StepLR(sgd, 3, 0.7)),
    lambda sgd: WarmupScheduler(sgd, 4, cosine(sgd, 10, 1)),
]


@given(build=st.sampled_from(ALL), done=st.integers(0, 12), more=st.integers(0, 6))
def test_state_round_trips_through_json_at_any_step(build: Callable[[SGD], LRScheduler], done: int, more: int) -> None:
    """Loaded with a new optimizer, a scheduler continues with the same rates, bit for bit."""
    first = build(optimizer())
    rates_over(first, done)
    saved = json.loads(json.dumps(first.state_dict()))

    second = build(optimizer())
    second.load_state_dict(saved)

    assert second.get_last_lr() == first.get_last_lr()
    assert rates_over(second, more) == rates_over(first, more)
    assert second.state_dict() == first.state_dict()


def test_every_public_name_can_be_imported() -> None:
    """``dir`` lists the names, and an unknown name raises as Python does."""
    assert dir(schedulers) == schedulers.__all__
    assert all(callable(getattr(schedulers, name)) for name in schedulers.__all__)
    with pytest.raises(AttributeError, match=r"module 'dovetail.schedulers' has no attribute 'cosin'"):
        schedulers.cosin  # noqa: B018 (the access is the test)


def test_importing_the_namespace_does_not_import_torch() -> None:
    """Only using a name does."""
    code = "import sys, dovetail.schedulers; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
