"""Monitoring of a run: its gradients, its data, its memory, and alerts.

Public names are imported on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from dovetail.monitor.alerts import Alert as Alert
    from dovetail.monitor.alerts import AlertManager as AlertManager
    from dovetail.monitor.alerts import Severity as Severity
    from dovetail.monitor.columns import DriftError as DriftError
    from dovetail.monitor.drift import DriftMetrics as DriftMetrics
    from dovetail.monitor.drift import jensen_shannon as jensen_shannon
    from dovetail.monitor.drift import measure_drift as measure_drift
    from dovetail.monitor.drift_monitor import DriftMonitor as DriftMonitor
    from dovetail.monitor.gradients import ExplodingGradientError as ExplodingGradientError
    from dovetail.monitor.gradients import GradientMonitor as GradientMonitor
    from dovetail.monitor.health import GradientHealth as GradientHealth
    from dovetail.monitor.health import check_gradient_health as check_gradient_health
    from dovetail.monitor.memory import MemoryBudget as MemoryBudget
    from dovetail.monitor.memory import memory_peaks as memory_peaks
    from dovetail.monitor.profile import DataProfile as DataProfile
    from dovetail.monitor.rules import AlertConfig as AlertConfig
    from dovetail.monitor.rules import AlertRule as AlertRule
    from dovetail.monitor.rules import AlertRules as AlertRules
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
