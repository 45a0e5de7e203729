"""How long epochs and updates take."""

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
    """Return what times the epochs of a run, validation and saving included, and on request every update.

    Args:
        verbose: write a line to the log after each epoch, with the time of an update on average.
        batches: time every update on its own, and log after each epoch, as ``monitor`` figures in seconds, the median
            of them (``update_time_median``), what 95 of 100 stay below (``update_time_p95``), the longest
            (``update_time_max``), and all that was spent between updates, on waiting for data, validating and saving
            (``time_between_updates``). On a GPU the time of an update is what the host needs to ask for it.
    """
    return BatchTiming(verbose=verbose) if batches else Timing(verbose=verbose)


class Timing:
    """Times every epoch, and says in the log how long an update took on average.

    Nothing is called per update: the time of one is the epoch's divided by their number.
    """

    def __init__(self, *, verbose: bool = True) -> None:
        self.verbose = verbose
        #: Seconds of each epoch, and of an update in it on average.
        self.epochs: list[float] = []
        self.updates: list[float] = []
        # None while the watch stands; and the seconds of the epoch under way before it was last started.
        self._began: float | None = None
        self._before, self._step = 0.0, 0

    def dovetail_run_start(self) -> None:
        """Start the watch again, in the middle of an epoch where a run is resumed."""
        self._began = time.monotonic()

    def dovetail_epoch_start(self, run: Run) -> None:
        """Start the watch."""
        self._began, self._before, self._step = time.monotonic(), 0.0, run.state.step

    def dovetail_epoch_end(self, run: Run, epoch: int) -> None:
        """Stop it."""
        seconds = self._seconds()
        self._began, self._before = None, 0.0
        self.epochs.append(seconds)
        self.updates.append(seconds / max(1, run.state.step - self._step))
        if self.verbose:
            _logger.info("epoch %d took %.3f s, %.3f ms per update", epoch, seconds, 1000 * self.updates[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        under_way = {"seconds": self._seconds(), "step": self._step}
        return {"epochs": list(self.epochs), "updates": list(self.updates), **under_way}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.epochs, self.updates = list(state["epochs"]), list(state["updates"])
        self._began, self._before, self._step = None, state["seconds"], state["step"]

    def _seconds(self) -> float:
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def dovetail_run_end(self, outcome: Any) -> None:
        """Say what the whole run came to."""
        if self.verbose and self.epochs:
            mean = sum(self.epochs) / len(self.epochs)
            _logger.info("%d epochs took %.3f s each on average (%s)", len(self.epochs), mean, outcome.status)


class BatchTiming(Timing):
    """Times every update as well, from when its batches are there to when its weights are new."""

    def __init__(self, *, verbose: bool = True) -> None:
        super().__init__(verbose=verbose)
        #: Seconds of each update of the epoch under way.
        self.laps: list[float] = []
        self._update_began = 0.0

    def dovetail_epoch_start(self, run: Run) -> None:
        """Start anew."""
        super().dovetail_epoch_start(run)
        self.laps = []

    def dovetail_batch_start(self) -> None:
        """Start an update's watch."""
        self._update_began = time.perf_counter()

    def dovetail_batch_end(self) -> None:
        """Stop it."""
        self.laps.append(time.perf_counter() - self._update_began)

    def dovetail_epoch_end(self, run: Run, epoch: int) -> None:
        """Log what the updates came to."""
        super().dovetail_epoch_end(run, epoch)
        median, most = np.quantile(self.laps, [0.5, 0.95]).tolist()
        figures = {
            "update_time_median": median,
            "update_time_p95": most,
            "update_time_max": max(self.laps),
            "time_between_updates": max(0.0, self.epochs[-1] - sum(self.laps)),
        }
        run.log("monitor", figures)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {**super().state_dict(), "laps": np.array(self.laps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        super().load_state_dict(state)
        self.laps = state["laps"].tolist()
