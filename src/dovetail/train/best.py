"""The best of a run so far, by the metric that its checkpoints are chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

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
        """Look at one batch of validation for what is monitored, so that a misspelt metric does not cost an epoch.

        Raises:
            TrainingError: one is not there.
        """
        loader = self._run.parts.loaders.validation
        if loader is not None and any(metric != "val_loss" for metric in _monitored(self._run).values()):
            figures = evaluate(trainer, self._run, islice(loader, 1), "val")
            if figures is not None:
                check_monitored(self._run, figures)

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


def check_monitored(run: Run, figures: Mapping[str, Any]) -> None:
    """Look among the figures of a validation for what the run goes by.

    Raises:
        TrainingError: one is not there; the message names the setting.
    """
    known = scalars(figures)
    for setting, metric in _monitored(run).items():
        if metric not in known:
            raise TrainingError(missing_metric(setting, metric, known))


def _monitored(run: Run) -> dict[str, str]:
    """Return the metrics of validation that the run goes by, by the setting that names them."""
    schedules = [phase.schedule for phase in run.phases if phase.schedule is not None]
    asked: list[tuple[str, Any]] = [
        ("checkpoint.monitor", run.config.checkpoint.monitor),
        *(("scheduler.monitor", one.monitor) for one in schedules if one.reads_metrics),
        *((f"{path}.monitor", getattr(part, "monitor", None)) for path, part in run.parts.named()),
    ]
    return {setting: metric for setting, metric in asked if isinstance(metric, str) and metric.startswith("val_")}
