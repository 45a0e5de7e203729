"""Metrics for runs, and the same metrics as functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.metrics.accuracy import Accuracy as Accuracy
    from dovetail.metrics.base import SumMetric as SumMetric
    from dovetail.metrics.confidence import Confidence as Confidence
    from dovetail.metrics.confusion_matrix import ConfusionMatrix as ConfusionMatrix
    from dovetail.metrics.functions import compute_accuracy as compute_accuracy
    from dovetail.metrics.functions import compute_confusion_matrix as compute_confusion_matrix
    from dovetail.metrics.functions import compute_f1_score as compute_f1_score
    from dovetail.metrics.functions import compute_per_class_metrics as compute_per_class_metrics
    from dovetail.metrics.functions import compute_top_k_accuracy as compute_top_k_accuracy
    from dovetail.metrics.per_class import F1 as F1
    from dovetail.metrics.per_class import PerClass as PerClass
    from dovetail.metrics.regression import R2 as R2
    from dovetail.metrics.regression import MeanAbsoluteError as MeanAbsoluteError
    from dovetail.metrics.regression import MeanSquaredError as MeanSquaredError
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
