"""Keep the learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from dovetail.spec import AtLeast

if TYPE_CHECKING:
    from dovetail.train.context import Run


class LearningRateMonitor:
    """Notes the learning rate of every parameter group at the end of epochs, for whoever reads :attr:`history`.

    ``metrics.jsonl`` has the rates anyway: ``lr`` of the first group, ``lr_group1`` … of the others.

    Args:
        log_interval: look every so many epochs.
    """

    def __init__(self, log_interval: Annotated[int, AtLeast(1)] = 1) -> None:
        self.log_interval = log_interval
        #: (epoch, the rate of each group).
        self.history: list[tuple[int, list[float]]] = []

    def dovetail_epoch_end(self, run: Run, epoch: int) -> None:
        """Look at the optimizer."""
        if epoch % self.log_interval == 0:
            self.history.append((epoch, [float(group["lr"]) for group in run.parts.optimizer.param_groups]))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"history": list(self.history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.history = list(state["history"])
