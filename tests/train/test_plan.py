"""The planned length of a run, and what a trainer with its own batches changes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from dovetail.train.plan import Plan
from small_runs import CountedBatches, small


@given(st.integers(1, 100), st.integers(1, 9), st.integers(1, 20) | st.none(), st.integers(1, 99) | st.none())
def test_a_plan_ends_at_the_nearer_limit(batches, accumulate, epochs, steps):
    """Its epochs and updates agree with each other and with the limits."""
    if epochs is None and steps is None:
        with pytest.raises(ValueError, match="never ends"):
            Plan.make(batches, accumulate=accumulate, max_epochs=None, max_steps=None)
        return
    plan = Plan.make(batches, accumulate=accumulate, max_epochs=epochs, max_steps=steps)

    assert plan.steps_per_epoch == math.ceil(batches / accumulate)
    assert plan.total_steps <= (steps or math.inf)
    assert plan.max_epochs <= (epochs or math.inf)
    assert (plan.max_epochs - 1) * plan.steps_per_epoch < plan.total_steps <= plan.max_epochs * plan.steps_per_epoch


def test_a_trainer_without_batches_is_refused(tmp_path):
    """The error is placed at the trainer."""
    trainer = CountedBatches()
    trainer.num_batches = lambda loader: 0
    with pytest.raises(ConfigError, match=r"trainer: num_batches\(\) returned 0; an epoch has at least one batch"):
        run(small(tmp_path, trainer=trainer))
