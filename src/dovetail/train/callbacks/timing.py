"""How long epochs and updates take."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


class Timing:
    """Times every epoch, validation and saving included, and says in the log how long an update took on average.

    Nothing is called per update: the time of one is the epoch's divided by their number.

    Args:
        verbose: write a line to the log after each epoch.
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
