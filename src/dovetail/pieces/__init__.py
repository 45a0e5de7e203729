"""Building blocks for a training loop of your own, under the names of the documents that Dovetail was built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.pieces.accumulator import AccumulationStats as AccumulationStats
    from dovetail.pieces.accumulator import GradientAccumulator as GradientAccumulator
    from dovetail.pieces.checkpoint_manager import CheckpointManager as CheckpointManager
    from dovetail.pieces.checkpoint_manager import CheckpointMetadata as CheckpointMetadata
    from dovetail.pieces.classification_metrics import ClassificationMetrics as ClassificationMetrics
    from dovetail.pieces.compare import compare_teacher_student as compare_teacher_student
    from dovetail.pieces.data_loaders import CollatorRegistry as CollatorRegistry
    from dovetail.pieces.data_loaders import DataLoaderConfig as DataLoaderConfig
    from dovetail.pieces.data_loaders import DataLoaderFactory as DataLoaderFactory
    from dovetail.pieces.loop import EpochResult as EpochResult
    from dovetail.pieces.loop import TrainingLoop as TrainingLoop
    from dovetail.pieces.loop import ValidationLoop as ValidationLoop
    from dovetail.pieces.losses import LossStrategyRegistry as LossStrategyRegistry
    from dovetail.pieces.losses import create_criterion as create_criterion
    from dovetail.pieces.losses import get_loss_strategy as get_loss_strategy
    from dovetail.pieces.metrics import MetricsEngine as MetricsEngine
    from dovetail.pieces.metrics import MetricsTracker as MetricsTracker
    from dovetail.pieces.optimizers import OptimizerConfig as OptimizerConfig
    from dovetail.pieces.optimizers import create_adamw_optimizer as create_adamw_optimizer
    from dovetail.pieces.optimizers import create_optimizer as create_optimizer
    from dovetail.pieces.optimizers import create_rmsprop_optimizer as create_rmsprop_optimizer
    from dovetail.pieces.optimizers import create_sgd_optimizer as create_sgd_optimizer
    from dovetail.pieces.schedulers import PolynomialLRScheduler as PolynomialLRScheduler
    from dovetail.pieces.schedulers import WarmupCosineScheduler as WarmupCosineScheduler
    from dovetail.pieces.schedulers import create_cosine_scheduler as create_cosine_scheduler
    from dovetail.pieces.schedulers import create_cosine_warmrestarts_scheduler as create_cosine_warmrestarts_scheduler
    from dovetail.pieces.schedulers import create_exponential_scheduler as create_exponential_scheduler
    from dovetail.pieces.schedulers import create_noam_schedule as create_noam_schedule
    from dovetail.pieces.schedulers import create_onecycle_scheduler as create_onecycle_scheduler
    from dovetail.pieces.schedulers import create_plateau_scheduler as create_plateau_scheduler
    from dovetail.pieces.schedulers import create_scheduler as create_scheduler
    from dovetail.pieces.schedulers import create_step_scheduler as create_step_scheduler
    from dovetail.pieces.schedulers import create_warmup_cosine_schedule as create_warmup_cosine_schedule
    from dovetail.pieces.schedulers import create_warmup_linear_schedule as create_warmup_linear_schedule
    from dovetail.pieces.schedulers import get_scheduler as get_scheduler
    from dovetail.pieces.seed_manager import SeedManager as SeedManager
    from dovetail.pieces.seed_manager import seed_worker as seed_worker
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
