"""Cadences and budgets of wall-clock time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.schema import Every
from dovetail.main import run
from dovetail.train.clock import Cadence
from small_runs import Keep, small


class Clock:
    """Goes on as fast as real time does, and when it is told to."""

    def __init__(self) -> None:
        self._real, self._more = time.monotonic, 0.0

    def monotonic(self) -> float:
        """Return the seconds."""
        return self._real() + self._more

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self._more += seconds


@pytest.fixture
def clock(monkeypatch):
    """A clock with which minutes pass at once, beside which real seconds are nothing, however many a machine needs."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


def test_the_wall_clock_is_kept(tmp_path, clock):
    """A run stops before its limit, with a checkpoint of the last update and without a test."""

    class Slow:
        def dovetail_batch_end(self, step: int) -> None:
            clock.go_on(598 if step == 10 else 0)

    keep = Keep()
    config = small(
        tmp_path,
        training={"max_epochs": 1000},
        budget={"wall_clock": "10m"},
        callbacks={"slow": Slow(), "keep": keep},
    )
    outcome = run(config)

    assert (outcome.status, outcome.stopped_by) == ("out_of_budget", "budget.wall_clock")
    assert outcome.test_metrics == {}
    assert keep.run.checkpoints.latest().step == keep.run.state.step == 10


def test_no_update_is_begun_that_would_end_too_late(tmp_path, clock):
    """However long an update takes, the run has ended before its limit."""

    class Slow:
        def dovetail_batch_start(self) -> None:
            clock.go_on(150)

    outcome = run(small(tmp_path, budget={"wall_clock": "10m"}, callbacks={"slow": Slow()}))

    assert (outcome.status, outcome.stopped_by) == ("out_of_budget", "budget.wall_clock")
    assert 450 <= outcome.total_time < 600


counts = st.integers(1, 5)


@given(epochs=counts, steps=counts, at=st.integers(1, 100))
def test_of_several_whichever_comes_first(epochs, steps, at):
    """Epochs and updates count on their own: each makes it due, as if the other were not set."""
    both = Cadence(Every(epochs=epochs, steps=steps))

    assert both.due_after_epoch(at) == Cadence(Every(epochs=epochs)).due_after_epoch(at) == (at % epochs == 0)
    assert both.due(at) == Cadence(Every(steps=steps)).due(at) == (at % steps == 0)
    assert both.next_step(at) == Cadence(Every(steps=steps)).next_step(at)


def test_minutes_pass_whatever_else_is_counted():
    """By the clock it is due between two updates that are counted, and waits anew when it is done."""
    cadence = Cadence(Every(steps=1000, minutes=0.0005))
    time.sleep(0.05)

    assert cadence.due(1)
    cadence = Cadence(Every(steps=1000, minutes=60))
    assert not cadence.due(1)
    assert cadence.due(1000)
