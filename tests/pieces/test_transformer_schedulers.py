"""Tests of creating transformer schedules by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LRScheduler

from dovetail.pieces import transformer_schedulers as transformer
from dovetail.schedulers import noam, warmup_cosine, warmup_linear
from rates import assert_close, optimizer, rates_over


@pytest.mark.parametrize(
    "name, options, expected",
    [
        (
            "warmup_cosine",
            {"warmup_epochs": 3, "total_epochs": 10},
            lambda sgd: warmup_cosine(sgd, 10, 1, warmup=3, min_lr=1e-7),
        ),
        ("warmup_linear", {"warmup_epochs": 3, "total_epochs": 10}, lambda sgd: warmup_linear(sgd, 10, 1, warmup=3)),
        ("noam", {}, lambda sgd: noam(sgd, d_model=256, warmup_steps=4000)),
    ],
)
def test_transformer_schedules_by_name_have_the_documented_defaults(name, options, expected) -> None:
    """Epochs take the place of steps."""
    assert_close(
        rates_over(transformer.get_scheduler(optimizer(), name, **options), 12), rates_over(expected(optimizer()), 12)
    )


@given(done=st.integers(0, 11))
def test_a_warmup_cosine_continues_after_last_epoch(done: int) -> None:
    """As torch's schedulers do."""
    sgd = optimizer()
    whole = rates_over(transformer.WarmupCosineScheduler(sgd, 3, 10), 12)

    found = rates_over(transformer.WarmupCosineScheduler(sgd, 3, 10, last_epoch=done), 11 - done)

    assert_close(found, whole[done + 1 :])


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: transformer.get_scheduler(optimizer(), "x"), "unknown scheduler 'x'; there are warmup_cosine, warm"),
        (
            lambda: transformer.get_scheduler(optimizer(), "noam", warmup_step=5),
            "noam has no option 'warmup_step'; did you mean 'warmup_steps'",
        ),
    ],
)
def test_an_unknown_name_or_option_is_refused(build: Callable[[], LRScheduler], message: str) -> None:
    """The message suggests the nearest name."""
    with pytest.raises(ValueError, match=message):
        build()
