"""Dovetail: a training framework in which every part is a plugin and every part fits.

``dovetail.run(config)`` trains, ``dovetail.resume(folder)`` resumes, ``dovetail.check(config)`` tries one batch, and
``dovetail.load_model(run)`` returns the trained model. Public names are imported on first use, so ``import dovetail``
and the console start without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dovetail import data as data
    from dovetail import losses as losses
    from dovetail import metrics as metrics
    from dovetail import models as models
    from dovetail import monitor as monitor
    from dovetail import optimizers as optimizers
    from dovetail import pieces as pieces
    from dovetail import schedulers as schedulers
    from dovetail.checkpoint.manifest import CheckpointError as CheckpointError
    from dovetail.config.api import Config as Config
    from dovetail.config.diagnostics import ConfigError as ConfigError
    from dovetail.data.batch import Batch as Batch
    from dovetail.data.splits import Splits as Splits
    from dovetail.kernel.build import BuildError as BuildError
    from dovetail.kernel.component import Component as Component
    from dovetail.kernel.component import PluginError as PluginError
    from dovetail.kernel.kind import Provided as Provided
    from dovetail.losses.adapt import as_loss as as_loss
    from dovetail.losses.result import LossResult as LossResult
    from dovetail.main import resume as resume
    from dovetail.main import run as run
    from dovetail.models.output import ModelOutput as ModelOutput
    from dovetail.monitor.gradients import GradientMonitor as GradientMonitor
    from dovetail.monitor.health import check_gradient_health as check_gradient_health
    from dovetail.monitor.rules import AlertConfig as AlertConfig
    from dovetail.pieces.accumulator import GradientAccumulator as GradientAccumulator
    from dovetail.pieces.checkpoint_manager import CheckpointManager as CheckpointManager
    from dovetail.pieces.loop import EpochResult as EpochResult
    from dovetail.pieces.loop import TrainingLoop as TrainingLoop
    from dovetail.pieces.loop import ValidationLoop as ValidationLoop
    from dovetail.pieces.metrics import MetricsEngine as MetricsEngine
    from dovetail.pieces.metrics import MetricsTracker as MetricsTracker
    from dovetail.pieces.seed_manager import SeedManager as SeedManager
    from dovetail.record.experiments import ExperimentDB as ExperimentDB
    from dovetail.record.resumable import ResumeError as ResumeError
    from dovetail.record.runs import RunLookupError as RunLookupError
    from dovetail.spec.hooks import hookimpl as hookimpl
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
    from dovetail.train.checkpoints.load import load_model as load_model
    from dovetail.train.checks.dry_run import DryRun as DryRun
    from dovetail.train.checks.dry_run import check as check
    from dovetail.train.context import Run as Run
    from dovetail.train.errors import TrainingError as TrainingError
    from dovetail.train.seeds import set_random_seed as set_random_seed
    from dovetail.train.state import Outcome as Outcome
    from dovetail.train.trainer import StandardTrainer as StandardTrainer
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
