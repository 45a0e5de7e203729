"""Time: stopping before the wall clock runs out, and how fast training is."""

from __future__ import annotations

import math
import time
from typing import Final

#: Share of the limit, and seconds at most, that are kept free for what nobody can time beforehand.
_SLACK: Final = 0.02
_MOST_SLACK: Final = 60.0
#: How much longer than before something may take.
_FACTOR: Final = 1.5


class WallClock:
    """Says when to stop, so that a checkpoint still fits before the limit.

    What is kept free grows with what was seen: one and a half times the longest checkpoint, as much of the update that
    is to come, and for everything else 2 % of the limit, a minute at most.
    """

    def __init__(self, limit: float | None, started: float) -> None:
        """Count from ``started`` (``time.monotonic()``); a ``limit`` of None never ends."""
        self._end = math.inf if limit is None else started + limit
        self._slack = 0.0 if limit is None else min(_MOST_SLACK, limit * _SLACK)
        self._longest: dict[str, float] = {}
        self.deadline = self._end - self._slack

    def took(self, what: str, seconds: float) -> None:
        """Note how long something took: ``"checkpoint"``, ``"validation"`` …."""
        self._longest[what] = max(seconds, self._longest.get(what, 0.0))
        self.deadline = self._end - self._slack - _FACTOR * self._longest.get("checkpoint", 0.0)

    def over(self, now: float | None = None) -> bool:
        """Say whether it is time to stop, by ``time.monotonic()`` or by a time that is to come."""
        return (time.monotonic() if now is None else now) >= self.deadline

    def has_time_for(self, what: str) -> bool:
        """Say whether something that was seen before still fits."""
        return time.monotonic() + _FACTOR * self._longest.get(what, 0.0) < self.deadline


class Pace:
    """Tells when the next one will be done of things that are done one after another."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._began: float | None = None
        self._last = self._seconds = 0.0

    def pause(self) -> None:
        """Count nothing until the next one begins."""
        self._began = None

    def go_on(self) -> None:
        """Let the next one begin now, rather than when :meth:`lap` was called."""
        self._began = time.monotonic()

    def lap(self) -> float:
        """Note that one is done and the next begins, and return the ``time.monotonic()`` by which that may be done.

        It goes by the lesser of the last two, since one alone may have been compiled, or kept waiting.
        """
        now = time.monotonic()
        if self._began is not None:
            took = now - self._began
            self._seconds, self._last = min(self._last, took), took
        self._began = now
        return now + _FACTOR * self._seconds

    def next(self) -> float:
        """Return the ``time.monotonic()`` by which one that begins now may be done."""
        return time.monotonic() + _FACTOR * self._seconds


class Stopwatch:
    """Counts the seconds spent on something, less those spent on something else in between."""

    def __init__(self, seconds: float = 0.0) -> None:
        """Start, or go on from ``seconds`` that were counted before."""
        #: ``time.monotonic()`` when it was started.
        self.started = time.monotonic()
        self._more = seconds

    def add(self, seconds: float) -> None:
        """Count ``seconds`` besides those since the start."""
        self._more += seconds

    def leave_out(self, seconds: float) -> None:
        """Do not count ``seconds`` of the time since the start."""
        self._more -= seconds

    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.monotonic() - self.started + self._more

    def lap(self) -> float:
        """Return the seconds so far, and start anew."""
        now = time.monotonic()
        seconds = now - self.started + self._more
        self.started, self._more = now, 0.0
        return seconds


def per_second(number: float, seconds: float) -> float:
    """Return how many of ``number`` things there were in a second."""
    return number / max(seconds, 1e-9)
