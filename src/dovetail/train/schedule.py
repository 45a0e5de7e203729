"""When a learning-rate scheduler steps."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dovetail.train.errors import TrainingError
from dovetail.train.figures import missing_metric


class Schedule:
    """A scheduler, stepped once per optimizer update or once per epoch."""

    def __init__(self, scheduler: Any, *, per_epoch: bool = False, monitor: str = "val_loss") -> None:
        """Say when it steps.

        Args:
            scheduler: a torch ``LRScheduler``, or anything with ``step()``.
            per_epoch: step at the end of an epoch and not after every update.
            monitor: the metric for a scheduler whose ``step`` takes ``metrics``; such a one always steps per epoch.
        """
        self._scheduler = scheduler
        #: Whether it steps on a metric, as a plateau scheduler does.
        self.reads_metrics = "metrics" in inspect.signature(scheduler.step).parameters
        #: That metric.
        self.monitor = monitor
        self.per_epoch = per_epoch or self.reads_metrics

    def after_update(self) -> None:
        """Step; only for a scheduler that steps per update."""
        self._scheduler.step()

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        """Step, if this one steps per epoch.

        Raises:
            TrainingError: a plateau scheduler's metric is not among ``metrics``.
        """
        if not self.per_epoch:
            return
        if not self.reads_metrics:
            self._scheduler.step()
        elif self.monitor in metrics:
            self._scheduler.step(metrics[self.monitor])
        else:
            raise TrainingError(f"scheduler.monitor: {missing_metric(self.monitor, metrics)}")
