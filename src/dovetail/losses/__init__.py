"""Losses, the adapter for any callable, and losses for a loop of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.losses.adapt import as_loss as as_loss
    from dovetail.losses.class_weights import compute_class_weights as compute_class_weights
    from dovetail.losses.classification import ClassificationLoss as ClassificationLoss
    from dovetail.losses.classification import LabelSmoothingCrossEntropy as LabelSmoothingCrossEntropy
    from dovetail.losses.classification import cross_entropy as cross_entropy
    from dovetail.losses.distillation import DistillationLoss as DistillationLoss
    from dovetail.losses.focal import FocalLoss as FocalLoss
    from dovetail.losses.language_modeling import LanguageModelingLoss as LanguageModelingLoss
    from dovetail.losses.peft import PEFTAwareLoss as PEFTAwareLoss
    from dovetail.losses.physics_informed import PhysicsInformedLoss as PhysicsInformedLoss
    from dovetail.losses.quantization_safe import QuantizationSafeLoss as QuantizationSafeLoss
    from dovetail.losses.result import LossResult as LossResult
    from dovetail.losses.strategy import LossAsStrategy as LossAsStrategy
    from dovetail.losses.strategy import LossInputs as LossInputs
    from dovetail.losses.strategy import LossStrategy as LossStrategy
    from dovetail.losses.strategy import StrategyAsLoss as StrategyAsLoss
    from dovetail.losses.strategy import StrategyLoss as StrategyLoss
    from dovetail.losses.supcon import SupConLoss as SupConLoss
    from dovetail.losses.vision import DetectionLoss as DetectionLoss
    from dovetail.losses.vision import SegmentationLoss as SegmentationLoss
    from dovetail.losses.vision import VisionLoss as VisionLoss
    from dovetail.losses.wrapper import LossWrapper as LossWrapper
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
