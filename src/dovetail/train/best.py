"""The best value of a run so far, by the metric that ranks its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dovetail.train.errors import TrainingError
from dovetail.train.figures import better, missing_metric

if TYPE_CHECKING:
    from dovetail.train.context import Run


class Best:
    """Tracks the best value of ``checkpoint.monitor`` in the run's state."""

    def __init__(self, run: Run) -> None:
        """Track it in ``run``."""
        section = run.config.checkpoint
        self._run, self._monitor = run, section.monitor
        self._direction = run.checkpoints.mode
        #: Whether the metric is a figure of validation.
        self.of_validation = section.monitor.startswith("val_")

    def update(self, metrics: Mapping[str, float]) -> bool:
        """Record the figures of the current weights, and return whether they are the best so far.

        Raises:
            TrainingError: the metric is not among them.
        """
        state = self._run.state
        if self._monitor not in metrics:
            raise TrainingError(f"checkpoint.monitor: {missing_metric(self._monitor, metrics)}")
        improved = better(metrics[self._monitor], state.best_metric, self._direction)
        if improved:
            state.best_metric, state.best_epoch, state.best_step = metrics[self._monitor], state.epoch, state.step
        return improved

    def validation_loss(self) -> float | None:
        """Return the validation loss of the best weights; None if there is none, or not in this process."""
        state = self._run.state
        if self._monitor == "val_loss":
            return state.best_metric
        checkpoint = self._run.checkpoints.saved_at(state.best_step)
        return None if checkpoint is None else checkpoint.metrics.get("val_loss")
