"""Cadences: when something is due that happens every so many epochs, updates or minutes."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.schema import Every
from dovetail.train.clock import Cadence

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
