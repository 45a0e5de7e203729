"""The best of a run so far, by the metric that its checkpoints are chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from dovetail.train.errors import TrainingError
from dovetail.train.evaluate import evaluate
from dovetail.train.figures import better, direction, missing_metric, scalars

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.standard import StandardTrainer


class Best:
    """Follows ``checkpoint.monitor``, and keeps its best value in the run's state."""

    def __init__(self, run: Run) -> None:
        """Follow it in ``run``."""
        section = run.config.checkpoint
        self._run, self._monitor = run, section.monitor
        self._direction = direction(section.monitor, section.mode)
        #: Whether it is one of the figures of validation.
        self.of_validation = section.monitor.startswith("val_")

    def check(self, trainer: StandardTrainer) -> None:
        """Look at one batch of validation for the metric, so that a misspelt one does not cost an epoch.

        Raises:
            TrainingError: it is not there.
        """
        loader = self._run.parts.loaders.validation
        if loader is not None and self.of_validation and self._monitor != "val_loss":
            figures = evaluate(trainer, self._run, islice(loader, 1), "val") or {self._monitor: 0.0}
            if self._monitor not in scalars(figures):
                raise self._missing(scalars(figures))

    def note(self, metrics: Mapping[str, float]) -> bool:
        """Take in figures of the weights as they are, and say whether they are the best so far.

        Raises:
            TrainingError: the metric is not among them.
        """
        state = self._run.state
        if self._monitor not in metrics:
            raise self._missing(metrics)
        improved = better(metrics[self._monitor], state.best_metric, self._direction)
        if improved:
            state.best_metric, state.best_epoch, state.best_step = metrics[self._monitor], state.epoch, state.step
        return improved

    def _missing(self, metrics: Mapping[str, float]) -> TrainingError:
        return TrainingError(missing_metric("checkpoint.monitor", self._monitor, metrics))
