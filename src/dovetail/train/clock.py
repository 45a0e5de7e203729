"""Time: cadences, the budget of a run, and how fast training is."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from dovetail.config.schema import Every
from dovetail.monitor.memory import MemoryBudget

if TYPE_CHECKING:
    from dovetail.train.context import Run

_MINUTE: Final = 60.0
#: The fraction of the time limit, and the most seconds, kept in reserve for what cannot be timed beforehand.
_RESERVE: Final = 0.02
_MOST_RESERVE: Final = 60.0
#: The next checkpoint, validation or update may take this many times as long as those before.
_MARGIN: Final = 1.5


class Cadence:
    """Says when something is due that happens every so many epochs, updates or minutes."""

    def __init__(self, every: int | Every) -> None:
        """Follow ``every``, in which an integer means epochs; minutes count from now."""
        self._every = every = Every(epochs=every) if isinstance(every, int) else every
        self._wait = math.inf if every.minutes is None else every.minutes * _MINUTE
        #: The ``time.monotonic()`` at which it is due; infinity for a cadence without minutes.
        self.due_at = time.monotonic() + self._wait

    def next_step(self, step: int) -> float:
        """Return the first update after ``step`` at which it is due; infinity if updates are not counted."""
        steps = self._every.steps
        return math.inf if steps is None else (step // steps + 1) * steps

    def due(self, step: int) -> bool:
        """Return whether it is due after ``step`` updates, or by the clock."""
        return bool(self._every.steps and step % self._every.steps == 0) or time.monotonic() >= self.due_at

    def due_after_epoch(self, epoch: int) -> bool:
        """Return whether it is due at the end of ``epoch``."""
        return bool(self._every.epochs and epoch % self._every.epochs == 0)

    def done(self) -> None:
        """Restart the clock."""
        self.due_at = time.monotonic() + self._wait


class WallClock:
    """Says when to stop so that a last checkpoint fits before the time limit.

    The reserve grows with what was measured: 1.5 times the longest checkpoint, as much of the next update, and 2 % of
    the limit, at most a minute, for the rest.
    """

    def __init__(self, limit: float | None, started: float) -> None:
        """Count ``limit`` seconds from ``started`` (``time.monotonic()``); None never ends."""
        self._end = math.inf if limit is None else started + limit
        self._reserve = 0.0 if limit is None else min(_MOST_RESERVE, limit * _RESERVE)
        self._longest: dict[str, float] = {}
        self.deadline = self._end - self._reserve

    def took(self, what: str, seconds: float) -> None:
        """Record how long a ``"checkpoint"`` or a ``"validation"`` took."""
        self._longest[what] = max(seconds, self._longest.get(what, 0.0))
        self.deadline = self._end - self._reserve - _MARGIN * self._longest.get("checkpoint", 0.0)

    def over(self, now: float | None = None) -> bool:
        """Return whether it is time to stop, now or at a given ``time.monotonic()``."""
        return (time.monotonic() if now is None else now) >= self.deadline

    def has_time_for(self, what: str) -> bool:
        """Return whether one more ``what`` fits, judged by those before."""
        return time.monotonic() + _MARGIN * self._longest.get(what, 0.0) < self.deadline


class Budget:
    """The limits of ``[budget]``: the run is asked to stop, with a checkpoint, before time or memory is used up."""

    def __init__(self, run: Run) -> None:
        """Count from the start of the run."""
        self._run, self._limits = run, run.config.budget
        self._clock = WallClock(self._limits.wall_clock_seconds, run.watch.started)
        self._memory = MemoryBudget(run.device, main=self._limits.memory_bytes, gpu=self._limits.gpu_memory_bytes)

    @property
    def due_at(self) -> float:
        """The ``time.monotonic()`` at which :meth:`check` should next be called."""
        return min(self._clock.deadline, self._memory.due_at)

    def took(self, what: str, seconds: float) -> None:
        """Record how long a ``"checkpoint"`` or a ``"validation"`` took, since one more may have to fit."""
        self._clock.took(what, seconds)

    def check(self, now: float | None = None) -> None:
        """Ask the run to stop if memory or time is nearly used up.

        Args:
            now: the ``time.monotonic()`` by which the next update will be done; the present by default.
        """
        excess = self._memory.check()
        if excess is not None:
            limit = getattr(self._limits, excess.setting.removeprefix("budget."))
            name = "memory" if excess.setting == "budget.memory" else "GPU memory"
            state = "exceeded" if excess.used > excess.limit else "nearly used up"
            self._stop(f"the {name} budget of {limit} is {state}: {excess.used / 1e9:.2f} GB", excess.setting)
        elif self._clock.over(now):
            self._out_of_time()

    def has_time_for_validation(self) -> bool:
        """Return whether a validation fits, the same on all ranks; if not, ask the run to stop."""
        fits: bool = self._run.group.broadcast(self._clock.has_time_for("validation"))
        if not fits:
            self._out_of_time()
            self._run.agree()
        return fits

    def _out_of_time(self) -> None:
        self._stop(f"the wall clock budget of {self._limits.wall_clock} is used up", "budget.wall_clock")

    def _stop(self, reason: str, by: str) -> None:
        self._run.request_stop(reason, by, "out_of_budget")


class Pace:
    """Predicts when the next of a series of updates will be done."""

    def __init__(self) -> None:
        """Start without a measurement."""
        self._began: float | None = None
        self._last = self._seconds = 0.0

    def pause(self) -> None:
        """Ignore the time until the next :meth:`lap`."""
        self._began = None

    def restart(self) -> None:
        """Count the current update from now, rather than from the last :meth:`lap`."""
        self._began = time.monotonic()

    def lap(self) -> float:
        """Record that an update is done, and return the ``time.monotonic()`` by which the next may be done.

        The prediction is the shorter of the last two, since a single one may have been compiled or kept waiting.
        """
        now = time.monotonic()
        if self._began is not None:
            took = now - self._began
            self._seconds, self._last = min(self._last, took), took
        self._began = now
        return now + _MARGIN * self._seconds

    def next(self) -> float:
        """Return the ``time.monotonic()`` by which an update that starts now may be done."""
        return time.monotonic() + _MARGIN * self._seconds


class Stopwatch:
    """Counts seconds, from which others can be left out."""

    def __init__(self, seconds: float = 0.0) -> None:
        """Start, or continue from ``seconds`` that were counted before."""
        #: The ``time.monotonic()`` at which it was started.
        self.started = time.monotonic()
        self._more = seconds

    def add(self, seconds: float) -> None:
        """Add ``seconds``."""
        self._more += seconds

    def leave_out(self, seconds: float) -> None:
        """Subtract ``seconds``."""
        self._more -= seconds

    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.monotonic() - self.started + self._more

    def lap(self) -> float:
        """Return the seconds so far, and restart."""
        now = time.monotonic()
        seconds = now - self.started + self._more
        self.started, self._more = now, 0.0
        return seconds


def per_second(number: float, seconds: float) -> float:
    """Return ``number / seconds``, also for a duration of 0."""
    return number / max(seconds, 1e-9)
