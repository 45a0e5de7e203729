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
        self._began, self._step = 0.0, 0

    def dovetail_epoch_start(self, run: Run) -> None:
        """Start the watch."""
        self._began, self._step = time.monotonic(), run.state.step

    def dovetail_epoch_end(self, run: Run, epoch: int) -> None:
        """Stop it."""
        seconds = time.monotonic() - self._began
        self.epochs.append(seconds)
        self.updates.append(seconds / max(1, run.state.step - self._step))
        if self.verbose:
            _logger.info("epoch %d took %.3f s, %.3f ms per update", epoch, seconds, 1000 * self.updates[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        under_way = {"seconds": time.monotonic() - self._began, "step": self._step}
        return {"epochs": list(self.epochs), "updates": list(self.updates), **under_way}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.epochs, self.updates = list(state["epochs"]), list(state["updates"])
        self._began, self._step = time.monotonic() - state["seconds"], state["step"]

    def dovetail_run_end(self, outcome: Any) -> None:
        """Say what the whole run came to."""
        if self.verbose and self.epochs:
            mean = sum(self.epochs) / len(self.epochs)
            _logger.info("%d epochs took %.3f s each on average (%s)", len(self.epochs), mean, outcome.status)
