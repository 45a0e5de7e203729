"""The budget of a run: it is asked to stop, with a checkpoint, before its time or its memory is used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.monitor.memory import MemoryBudget
from dovetail.train.clock import WallClock

if TYPE_CHECKING:
    from dovetail.train.context import Run


class Budget:
    """Watches the limits of ``[budget]`` and what of the run takes how long."""

    def __init__(self, run: Run) -> None:
        """Count from the run's start."""
        self._run, self._limits = run, run.config.budget
        self._clock = WallClock(self._limits.wall_clock_seconds, run.watch.started)
        self._memory = MemoryBudget(run.device, main=self._limits.memory_bytes, gpu=self._limits.gpu_memory_bytes)

    @property
    def due_at(self) -> float:
        """``time.monotonic()`` from which on :meth:`check` is to be called."""
        return min(self._clock.deadline, self._memory.due_at)

    def took(self, what: str, seconds: float) -> None:
        """Note how long something took that may have to fit in once more: ``"checkpoint"`` or ``"validation"``."""
        self._clock.took(what, seconds)

    def check(self, now: float | None = None) -> None:
        """Ask the run to stop if its memory, or its time, is all but used up.

        Args:
            now: when what comes next will be done, if that is to be in time; the present unless given.
        """
        excess = self._memory.check()
        if excess is not None:
            limit = getattr(self._limits, excess.setting.removeprefix("budget."))
            name = "memory" if excess.setting == "budget.memory" else "GPU memory"
            state = "exceeded" if excess.used > excess.limit else "all but used up"
            self._stop(f"the {name} budget of {limit} is {state}: {excess.used / 1e9:.2f} GB", excess.setting)
        elif self._clock.over(now):
            self._out_of_time()

    def has_time_for_validation(self) -> bool:
        """Say whether one still fits, for all processes alike; where it does not, the run is asked to stop."""
        fits: bool = self._run.group.share(self._clock.has_time_for("validation"))
        if not fits:
            self._out_of_time()
            self._run.agree()
        return fits

    def _out_of_time(self) -> None:
        self._stop(f"the wall clock budget of {self._limits.wall_clock} is used up", "budget.wall_clock")

    def _stop(self, reason: str, by: str) -> None:
        self._run.request_stop(reason, by, "out_of_budget")
