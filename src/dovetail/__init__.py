"""Dovetail: a training framework in which every part is a plugin and every part fits.

Public names are imported when they are first used, so that ``import dovetail`` and the console start without
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import imported_on_use

if TYPE_CHECKING:
    from dovetail.config.api import Config as Config
    from dovetail.data.batch import Batch as Batch
    from dovetail.data.splits import Splits as Splits
    from dovetail.kernel.component import Component as Component
    from dovetail.losses.adapt import as_loss as as_loss
    from dovetail.losses.result import LossResult as LossResult
    from dovetail.models.output import ModelOutput as ModelOutput
    from dovetail.monitor.gradients import GradientMonitor as GradientMonitor
    from dovetail.monitor.health import check_gradient_health as check_gradient_health
    from dovetail.monitor.rules import AlertConfig as AlertConfig
    from dovetail.pieces.accumulator import GradientAccumulator as GradientAccumulator
    from dovetail.pieces.checkpoint_manager import CheckpointManager as CheckpointManager
    from dovetail.pieces.loop import EpochResult as EpochResult
    from dovetail.pieces.loop import TrainingLoop as TrainingLoop
    from dovetail.pieces.loop import ValidationLoop as ValidationLoop
    from dovetail.pieces.metrics_engine import MetricsEngine as MetricsEngine
    from dovetail.pieces.metrics_tracker import MetricsTracker as MetricsTracker
    from dovetail.pieces.seed_manager import SeedManager as SeedManager
    from dovetail.record.experiments import ExperimentDB as ExperimentDB
    from dovetail.spec.hooks import hookimpl as hookimpl
    from dovetail.spec.kinds import Provided as Provided
    from dovetail.spec.limits import AtLeast as AtLeast
    from dovetail.spec.limits import Between as Between
    from dovetail.spec.limits import MoreThan as MoreThan
    from dovetail.spec.protocols import Callback as Callback
    from dovetail.spec.protocols import Collator as Collator
    from dovetail.spec.protocols import Dataset as Dataset
    from dovetail.spec.protocols import Loss as Loss
    from dovetail.spec.protocols import Metric as Metric
    from dovetail.spec.protocols import Model as Model
    from dovetail.spec.protocols import Optimizer as Optimizer
    from dovetail.spec.protocols import Scheduler as Scheduler
    from dovetail.spec.protocols import Storage as Storage
    from dovetail.spec.protocols import Tracker as Tracker
    from dovetail.spec.protocols import Trainer as Trainer
    from dovetail.spec.protocols import Transform as Transform
    from dovetail.train.context import Run as Run
    from dovetail.train.seeds import set_random_seed as set_random_seed
    from dovetail.train.standard import StandardTrainer as StandardTrainer
    from dovetail.train.state import Outcome as Outcome
    from dovetail.train.trained import load_model as load_model

__version__ = "0.1.0"

_HOMES = {
    "AlertConfig": "dovetail.monitor.rules",
    "AtLeast": "dovetail.spec.limits",
    "Batch": "dovetail.data.batch",
    "Between": "dovetail.spec.limits",
    "Callback": "dovetail.spec.protocols",
    "CheckpointManager": "dovetail.pieces.checkpoint_manager",
    "Collator": "dovetail.spec.protocols",
    "Component": "dovetail.kernel.component",
    "Config": "dovetail.config.api",
    "Dataset": "dovetail.spec.protocols",
    "EpochResult": "dovetail.pieces.loop",
    "ExperimentDB": "dovetail.record.experiments",
    "GradientAccumulator": "dovetail.pieces.accumulator",
    "GradientMonitor": "dovetail.monitor.gradients",
    "Loss": "dovetail.spec.protocols",
    "LossResult": "dovetail.losses.result",
    "Metric": "dovetail.spec.protocols",
    "MetricsEngine": "dovetail.pieces.metrics_engine",
    "MetricsTracker": "dovetail.pieces.metrics_tracker",
    "Model": "dovetail.spec.protocols",
    "ModelOutput": "dovetail.models.output",
    "MoreThan": "dovetail.spec.limits",
    "Optimizer": "dovetail.spec.protocols",
    "Outcome": "dovetail.train.state",
    "Provided": "dovetail.spec.kinds",
    "Run": "dovetail.train.context",
    "Scheduler": "dovetail.spec.protocols",
    "SeedManager": "dovetail.pieces.seed_manager",
    "Splits": "dovetail.data.splits",
    "StandardTrainer": "dovetail.train.standard",
    "Storage": "dovetail.spec.protocols",
    "Tracker": "dovetail.spec.protocols",
    "Trainer": "dovetail.spec.protocols",
    "TrainingLoop": "dovetail.pieces.loop",
    "Transform": "dovetail.spec.protocols",
    "ValidationLoop": "dovetail.pieces.loop",
    "as_loss": "dovetail.losses.adapt",
    "check_gradient_health": "dovetail.monitor.health",
    "hookimpl": "dovetail.spec.hooks",
    "load_model": "dovetail.train.trained",
    "set_random_seed": "dovetail.train.seeds",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 (built from the one table above)

__getattr__ = imported_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
