"""Cadences and budgets of wall-clock time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.schema import Every
from dovetail.main import run
from dovetail.train.clock import Cadence
from small_runs import Keep, small


def test_a_run_keeps_its_wall_clock_budget(tmp_path, clock):
    """It stops before the limit with a checkpoint of the last update, and skips the test."""

    class Slow:
        def dovetail_batch_end(self, step: int) -> None:
            clock.advance(598 if step == 10 else 0)

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


def test_no_update_starts_that_would_end_too_late(tmp_path, clock):
    """However long an update takes, the run ends before its limit."""

    class Slow:
        def dovetail_batch_start(self) -> None:
            clock.advance(150)

    outcome = run(small(tmp_path, budget={"wall_clock": "10m"}, callbacks={"slow": Slow()}))

    assert (outcome.status, outcome.stopped_by) == ("out_of_budget", "budget.wall_clock")
    assert 450 <= outcome.total_time < 600


counts = st.integers(1, 5)


@given(epochs=counts, steps=counts, at=st.integers(1, 100))
def test_epochs_and_updates_count_independently(epochs, steps, at):
    """Each makes it due as if the other were not set."""
    both = Cadence(Every(epochs=epochs, steps=steps))

    assert both.due_after_epoch(at) == Cadence(Every(epochs=epochs)).due_after_epoch(at) == (at % epochs == 0)
    assert both.due(at) == Cadence(Every(steps=steps)).due(at) == (at % steps == 0)
    assert both.next_step(at) == Cadence(Every(steps=steps)).next_step(at)


def test_minutes_count_beside_updates(clock):
    """Whichever comes first makes it due, and the minutes start again once it is done."""
    cadence = Cadence(Every(steps=1000, minutes=5))
    assert not cadence.due(1)
    assert cadence.due(1000)

    clock.advance(301)
    assert cadence.due(1)
    cadence.done()
    assert not cadence.due(1)
