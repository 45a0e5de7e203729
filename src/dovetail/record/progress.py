"""The progress of a run: how far it is, how fast, how good. Computed from its counters and logged metrics."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from dovetail.record.formatting import format_metric

if TYPE_CHECKING:
    from dovetail.train.context import Run

#: Samples of the step counter that the throughput is measured over.
_WINDOW: Final = 120
#: Values of a loss that are kept for its sparkline.
_KEPT: Final = 4096
_LOSSES: Final = {"train_loss", "val_loss"}


class Progress:
    """The latest metrics of a run, the history of its losses, and the time left."""

    def __init__(self, run: Run) -> None:
        """Start measuring; a resumed run counts from the step it resumed at."""
        self._run = run
        #: Time, step and samples seen.
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=_WINDOW)
        #: The newest value of each metric.
        self.metrics: dict[str, float] = {}
        self._histories: dict[tuple[str, str], deque[float]] = defaultdict(partial(deque, maxlen=_KEPT))
        self.sample_counters()

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 1."""
        return max(1, self._run.state.epoch)

    @property
    def epochs(self) -> int:
        """The number of epochs the run is planned to have."""
        return self._run.plan.max_epochs

    @property
    def step(self) -> int:
        """Optimizer updates so far."""
        return self._run.state.step

    @property
    def steps(self) -> int:
        """The number of updates the run is planned to have."""
        return self._run.plan.total_steps

    def elapsed(self) -> float:
        """Return the seconds since the run started."""
        return self._run.elapsed()

    def sample_counters(self) -> None:
        """Sample the run's counters for the throughput. Reads two integers; the training loop does nothing for it."""
        self._samples.append((time.monotonic(), self.step, self._run.state.samples_seen))

    def add(self, event: str, metrics: Mapping[str, float]) -> None:
        """Add metrics that the run has logged with ``event``."""
        self.metrics.update(metrics)
        for name in _LOSSES & metrics.keys():
            self._histories[name, event].append(metrics[name])

    def history(self, name: str) -> list[float]:
        """Return the values of a loss so far, from the kind of event that reports it most often."""
        return max((list(self._histories[name, event]) for event in ("train", "validation", "epoch")), key=len)

    def seconds_left(self) -> float:
        """Return the estimated seconds until the run ends; infinite before the first steps."""
        (since, first, _), (now, last, _) = self._samples[0], self._samples[-1]
        return (self.steps - last) * (now - since) / (last - first) if last > first else math.inf

    def throughput(self) -> float | None:
        """Return samples per second, including the time for validation and saving; None before the first steps."""
        (since, _, first), (now, _, last) = self._samples[0], self._samples[-1]
        return (last - first) / (now - since) if last > first else None

    def best(self) -> str:
        """Return the best value of the monitored metric and its epoch as text; empty before the first validation."""
        state = self._run.state
        if state.best_metric is None:
            return ""
        monitor = self._run.config.checkpoint.monitor
        return f"{monitor} {format_metric(monitor, state.best_metric)} in epoch {state.best_epoch}"

    def is_best(self) -> bool:
        """Return whether the newest validation is the best so far."""
        return self._run.state.best_step is not None and self._run.state.best_step == self.step
