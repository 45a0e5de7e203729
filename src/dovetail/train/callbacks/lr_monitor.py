"""A history of learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from dovetail.spec import AtLeast
from dovetail.train.figures import learning_rates

if TYPE_CHECKING:
    from dovetail.train.context import Run


class LearningRateMonitor:
    """Records the learning rate of every parameter group at the end of epochs, in :attr:`history`.

    A scheduler that steps per epoch changes the rates only afterwards. ``metrics.jsonl`` always has these rates: ``lr``
    for the first group, ``lr_group1`` … for the others.

    Args:
        log_interval: record after every so many epochs.
    """

    def __init__(self, log_interval: Annotated[int, AtLeast(1)] = 1) -> None:
        self.log_interval = log_interval
        #: Pairs of an epoch and the rate of each group.
        self.history: list[tuple[int, list[float]]] = []

    def dovetail_epoch_end(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the rates of this epoch; the optimizer may already have those of the next."""
        if epoch % self.log_interval == 0:
            self.history.append((epoch, [metrics[name] for name in learning_rates(run.parts.optimizer)]))

    def state_dict(self) -> dict[str, Any]:
        """Return the history."""
        return {"history": list(self.history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved history."""
        self.history = list(state["history"])
