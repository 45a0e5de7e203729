"""Every so many epochs, updates or minutes."""

from __future__ import annotations

import math
import time
from typing import Final

from dovetail.config.schema import Every

_MINUTE: Final = 60.0


class Cadence:
    """Says when something is due."""

    def __init__(self, every: int | Every) -> None:
        """Follow ``every``, an integer meaning epochs; minutes count from now."""
        self._every = every = Every(epochs=every) if isinstance(every, int) else every
        self._wait = math.inf if every.minutes is None else every.minutes * _MINUTE
        #: ``time.monotonic()`` from which on it is due by the clock; never for one that counts.
        self.due_at = time.monotonic() + self._wait

    def next_step(self, step: int) -> float:
        """Return the first update after ``step`` at which it is due; infinite where updates are not counted."""
        steps = self._every.steps
        return math.inf if steps is None else (step // steps + 1) * steps

    def due(self, step: int) -> bool:
        """Say whether it is due after ``step`` updates, or by the clock."""
        return bool(self._every.steps and step % self._every.steps == 0) or time.monotonic() >= self.due_at

    def due_after_epoch(self, epoch: int) -> bool:
        """Say whether it is due at the end of ``epoch``."""
        return bool(self._every.epochs and epoch % self._every.epochs == 0)

    def done(self) -> None:
        """Start waiting anew."""
        self.due_at = time.monotonic() + self._wait
