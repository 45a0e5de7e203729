"""The duration of epochs and updates."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


def timing(*, verbose: bool = True, batches: bool = False) -> Timing:
    """Return a callback that times epochs, validation and saving included, and optionally every update.

    Args:
        verbose: log a line after each epoch, with the mean time of an update.
        batches: time every update, and log ``monitor`` figures in seconds after each epoch: the median
            (``update_time_median``), the 95th percentile (``update_time_p95``), the longest (``update_time_max``), and
            the time between updates for data, validation and saving (``time_between_updates``). On a GPU, the time of
            an update is the time that the host takes to launch it.
    """
    return BatchTiming(verbose=verbose) if batches else Timing(verbose=verbose)


class Timing:
    """Times every epoch.

    Nothing is called per update: the mean time of an update is the epoch's time divided by the number of updates.
    """

    def __init__(self, *, verbose: bool = True) -> None:
        self.verbose = verbose
        #: Seconds of each epoch, and the mean seconds of its updates.
        self.epochs: list[float] = []
        self.updates: list[float] = []
        # When the clock was started, or None while it is stopped; and the seconds of this epoch before that.
        self._started: float | None = None
        self._before, self._step = 0.0, 0

    def dovetail_run_start(self) -> None:
        """Start the clock; a resumed run may be in the middle of an epoch."""
        self._started = time.monotonic()

    def dovetail_epoch_start(self, run: Run) -> None:
        """Start the clock."""
        self._started, self._before, self._step = time.monotonic(), 0.0, run.state.step

    def dovetail_epoch_end(self, run: Run, epoch: int) -> None:
        """Stop the clock."""
        seconds = self._seconds()
        self._started, self._before = None, 0.0
        self.epochs.append(seconds)
        self.updates.append(seconds / max(1, run.state.step - self._step))
        if self.verbose:
            _logger.info("epoch %d took %.3f s, %.3f ms per update", epoch, seconds, 1000 * self.updates[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return the times so far."""
        current = {"seconds": self._seconds(), "step": self._step}
        return {"epochs": list(self.epochs), "updates": list(self.updates), **current}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore saved times."""
        self.epochs, self.updates = list(state["epochs"]), list(state["updates"])
        self._started, self._before, self._step = None, state["seconds"], state["step"]

    def _seconds(self) -> float:
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    def dovetail_run_end(self, outcome: Any) -> None:
        """Log the mean of all epochs."""
        if self.verbose and self.epochs:
            mean = sum(self.epochs) / len(self.epochs)
            _logger.info("%d epochs took %.3f s each on average (%s)", len(self.epochs), mean, outcome.status)


class BatchTiming(Timing):
    """Also times every update, from its batches to its new weights."""

    def __init__(self, *, verbose: bool = True) -> None:
        super().__init__(verbose=verbose)
        #: Seconds of each update of the current epoch.
        self.laps: list[float] = []
        self._update_started = 0.0

    def dovetail_epoch_start(self, run: Run) -> None:
        """Clear the times of the last epoch."""
        super().dovetail_epoch_start(run)
        self.laps = []

    def dovetail_batch_start(self) -> None:
        """Start the clock of an update."""
        self._update_started = time.perf_counter()

    def dovetail_batch_end(self) -> None:
        """Stop the clock of an update."""
        self.laps.append(time.perf_counter() - self._update_started)

    def dovetail_epoch_end(self, run: Run, epoch: int) -> None:
        """Log the figures of the epoch."""
        super().dovetail_epoch_end(run, epoch)
        median, p95 = np.quantile(self.laps, [0.5, 0.95]).tolist()
        figures = {
            "update_time_median": median,
            "update_time_p95": p95,
            "update_time_max": max(self.laps),
            "time_between_updates": max(0.0, self.epochs[-1] - sum(self.laps)),
        }
        run.log("monitor", figures)

    def state_dict(self) -> dict[str, Any]:
        """Return the times so far."""
        return {**super().state_dict(), "laps": np.array(self.laps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore saved times."""
        super().load_state_dict(state)
        self.laps = state["laps"].tolist()
