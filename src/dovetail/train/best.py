"""The best of a run so far, by the metric that its checkpoints are chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dovetail.train.errors import MisfitError, TrainingError
from dovetail.train.figures import better, direction, missing_metric, scalars

if TYPE_CHECKING:
    from dovetail.train.context import Run


class Best:
    """Follows ``checkpoint.monitor``, and keeps its best value in the run's state."""

    def __init__(self, run: Run) -> None:
        """Follow it in ``run``."""
        section = run.config.checkpoint
        self._run, self._monitor = run, section.monitor
        self._direction = direction(section.monitor, section.mode)
        #: Whether it is one of the figures of validation.
        self.of_validation = section.monitor.startswith("val_")

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

    def validation_loss(self) -> float | None:
        """Return the validation loss of the best weights; None where there is none, or not in this process."""
        state = self._run.state
        if self._monitor == "val_loss":
            return state.best_metric
        saved = self._run.checkpoints.saved_at(state.best_step)
        return None if saved is None else saved.metrics.get("val_loss")

    def _missing(self, metrics: Mapping[str, float]) -> TrainingError:
        return TrainingError(f"checkpoint.monitor: {missing_metric(self._monitor, metrics)}")


def check_monitored(run: Run, figures: Mapping[str, Any]) -> None:
    """Look among the figures of a validation for what the run goes by.

    Raises:
        MisfitError: one is not there; at the setting that names it.
    """
    known = scalars(figures)
    for setting, metric in _monitored(run).items():
        if metric not in known:
            raise MisfitError(setting, missing_metric(metric, known))


def _monitored(run: Run) -> dict[str, str]:
    """Return the metrics of validation that the run goes by, by the setting that names them."""
    schedules = [phase.schedule for phase in run.phases if phase.schedule is not None]
    asked: list[tuple[str, Any]] = [
        ("checkpoint.monitor", run.config.checkpoint.monitor),
        *(("scheduler.monitor", one.monitor) for one in schedules if one.reads_metrics),
        *((f"{path}.monitor", getattr(part, "monitor", None)) for path, part in run.parts.named()),
    ]
    return {setting: metric for setting, metric in asked if isinstance(metric, str) and metric.startswith("val_")}
