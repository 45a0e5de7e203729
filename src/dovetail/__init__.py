"""Dovetail: a training framework in which every part is a plugin and every part fits.

Public names are imported when they are first used, so that ``import dovetail`` and the console start without
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import imported_on_use

if TYPE_CHECKING:
    from dovetail.checkpoint.standalone import CheckpointManager as CheckpointManager
    from dovetail.config.api import Config as Config
    from dovetail.data.batch import Batch as Batch
    from dovetail.data.split import Splits as Splits
    from dovetail.kernel.component import Component as Component
    from dovetail.kernel.hooks import hookimpl as hookimpl
    from dovetail.kernel.kinds import AtLeast as AtLeast
    from dovetail.kernel.kinds import Between as Between
    from dovetail.kernel.kinds import Callback as Callback
    from dovetail.kernel.kinds import Collator as Collator
    from dovetail.kernel.kinds import Dataset as Dataset
    from dovetail.kernel.kinds import Loss as Loss
    from dovetail.kernel.kinds import Metric as Metric
    from dovetail.kernel.kinds import Model as Model
    from dovetail.kernel.kinds import MoreThan as MoreThan
    from dovetail.kernel.kinds import Optimizer as Optimizer
    from dovetail.kernel.kinds import Provided as Provided
    from dovetail.kernel.kinds import Scheduler as Scheduler
    from dovetail.kernel.kinds import Storage as Storage
    from dovetail.kernel.kinds import Tracker as Tracker
    from dovetail.kernel.kinds import Trainer as Trainer
    from dovetail.kernel.kinds import Transform as Transform
    from dovetail.losses.adapt import as_loss as as_loss
    from dovetail.losses.result import LossResult as LossResult
    from dovetail.models.output import ModelOutput as ModelOutput
    from dovetail.monitor.gradients import GradientMonitor as GradientMonitor
    from dovetail.monitor.health import check_gradient_health as check_gradient_health
    from dovetail.monitor.metrics_engine import MetricsEngine as MetricsEngine
    from dovetail.monitor.rules import AlertConfig as AlertConfig
    from dovetail.track.experiments import ExperimentDB as ExperimentDB
    from dovetail.track.metrics_tracker import MetricsTracker as MetricsTracker
    from dovetail.train.accumulator import GradientAccumulator as GradientAccumulator
    from dovetail.train.context import Run as Run
    from dovetail.train.engine import EpochResult as EpochResult
    from dovetail.train.engine import TrainingLoop as TrainingLoop
    from dovetail.train.engine import ValidationLoop as ValidationLoop
    from dovetail.train.seed_manager import SeedManager as SeedManager
    from dovetail.train.seeds import set_random_seed as set_random_seed
    from dovetail.train.standard import StandardTrainer as StandardTrainer
    from dovetail.train.state import Outcome as Outcome
    from dovetail.train.trained import load_model as load_model

__version__ = "0.1.0"

_HOMES = {
    "AlertConfig": "dovetail.monitor.rules",
    "AtLeast": "dovetail.kernel.kinds",
    "Batch": "dovetail.data.batch",
    "Between": "dovetail.kernel.kinds",
    "Callback": "dovetail.kernel.kinds",
    "CheckpointManager": "dovetail.checkpoint.standalone",
    "Collator": "dovetail.kernel.kinds",
    "Component": "dovetail.kernel.component",
    "Config": "dovetail.config.api",
    "Dataset": "dovetail.kernel.kinds",
    "EpochResult": "dovetail.train.engine",
    "ExperimentDB": "dovetail.track.experiments",
    "GradientAccumulator": "dovetail.train.accumulator",
    "GradientMonitor": "dovetail.monitor.gradients",
    "Loss": "dovetail.kernel.kinds",
    "LossResult": "dovetail.losses.result",
    "Metric": "dovetail.kernel.kinds",
    "MetricsEngine": "dovetail.monitor.metrics_engine",
    "MetricsTracker": "dovetail.track.metrics_tracker",
    "Model": "dovetail.kernel.kinds",
    "ModelOutput": "dovetail.models.output",
    "MoreThan": "dovetail.kernel.kinds",
    "Optimizer": "dovetail.kernel.kinds",
    "Outcome": "dovetail.train.state",
    "Provided": "dovetail.kernel.kinds",
    "Run": "dovetail.train.context",
    "Scheduler": "dovetail.kernel.kinds",
    "SeedManager": "dovetail.train.seed_manager",
    "Splits": "dovetail.data.split",
    "StandardTrainer": "dovetail.train.standard",
    "Storage": "dovetail.kernel.kinds",
    "Tracker": "dovetail.kernel.kinds",
    "Trainer": "dovetail.kernel.kinds",
    "TrainingLoop": "dovetail.train.engine",
    "Transform": "dovetail.kernel.kinds",
    "ValidationLoop": "dovetail.train.engine",
    "as_loss": "dovetail.losses.adapt",
    "check_gradient_health": "dovetail.monitor.health",
    "hookimpl": "dovetail.kernel.hooks",
    "load_model": "dovetail.train.trained",
    "set_random_seed": "dovetail.train.seeds",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 (built from the one table above)

__getattr__ = imported_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
