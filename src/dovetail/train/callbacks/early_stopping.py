"""Stop when a metric no longer improves."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from dovetail.record.formatting import plural
from dovetail.spec import AtLeast
from dovetail.train.checks.monitored import monitored_direction
from dovetail.train.errors import TrainingError
from dovetail.train.figures import better, missing_metric

if TYPE_CHECKING:
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


class EarlyStopping:
    """Stops the run after ``patience`` validations in a row without improvement.

    A metric that starts with ``train_`` is checked after every epoch instead. A NaN or infinite value never counts as
    an improvement.

    Args:
        monitor: the metric.
        patience: how many checks without improvement stop the run; 0 and 1 both stop at the first.
        mode: whether lower or higher values are better; ``"auto"`` uses what the metric declares, then
            its name.
        min_delta: how much better a value must be to count as an improvement.
        verbose: log each improvement.

    Raises:
        ValueError: ``monitor`` begins neither with ``val_`` nor with ``train_``.
        TrainingError: while training: there is no such metric.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: Annotated[int, AtLeast(0)] = 10,
        mode: Literal["auto", "min", "max"] = "auto",
        min_delta: Annotated[float, AtLeast(0)] = 0.0,
        *,
        verbose: bool = True,
    ) -> None:
        self.monitor, self.patience, self.min_delta, self.verbose = monitor, patience, min_delta, verbose
        if not monitor.startswith(("val_", "train_")):
            raise ValueError(
                f"monitor: there is no figure '{monitor}'; figures of validation begin with val_, as val_{monitor}, "
                "and those of training with train_"
            )
        self.mode = mode
        #: The best value so far, its epoch, and the number of checks since.
        self.best: float | None = None
        self.best_epoch = 0
        self.waited = 0

    def dovetail_run_start(self, run: Run) -> None:
        """Alert if the metric will never be measured."""
        if run.parts.loaders.validation is None and not self.monitor.startswith("train_"):
            run.alert(
                "early_stopping",
                f"there is no validation split, so {self.monitor} is never measured and nothing stops this run early; "
                'monitor = "train_loss" needs none',
                cooldown=math.inf,
            )

    def dovetail_validation_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Check validation metrics."""
        if not self.monitor.startswith("train_"):
            self._check(run, metrics)

    def dovetail_epoch_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Check training metrics."""
        if self.monitor.startswith("train_"):
            self._check(run, metrics)

    def _check(self, run: Run, metrics: Mapping[str, float]) -> None:
        if self.monitor not in metrics:
            raise TrainingError(f"monitor: {missing_metric(self.monitor, metrics)}")
        value = metrics[self.monitor]
        # Nothing is known only of a part of the loss: the first batch refuses anything else.
        mode = monitored_direction(run.config, run.parts.metrics, self.monitor, self.mode) or "min"
        if better(value, self.best, mode, self.min_delta):
            if self.verbose:
                _logger.info("%s improved from %s to %.6g", self.monitor, self.best, value)
            self.best, self.best_epoch, self.waited = value, run.state.epoch, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            best = (
                "there was no finite value" if self.best is None else f"best {self.best:.6g} in epoch {self.best_epoch}"
            )
            looks = plural(self.waited, "epoch" if self.monitor.startswith("train_") else "validation")
            run.request_stop(f"{self.monitor} has not improved for {looks} ({best})", by=self)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the checks since."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
