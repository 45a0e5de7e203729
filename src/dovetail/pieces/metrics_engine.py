"""Figures, drift and alerts of epochs, for a training loop written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from dovetail.metrics.confidence import Confidence
from dovetail.models.output import ModelOutput
from dovetail.monitor.alerts import Alert, AlertManager
from dovetail.monitor.drift import DriftMetrics, measure_drift, no_drift
from dovetail.monitor.rules import AlertConfig, RuleChecker
from dovetail.pieces.metrics_tracker import MetricsTracker

if TYPE_CHECKING:
    import pandas as pd

    from dovetail.monitor.profile import Profile

#: What the limits call a figure of an epoch.
_NAMES: Final = {"val_loss": "val_loss", "val_accuracy": "val_accuracy", "gradient_norm": "grad_norm"}


class MetricsEngine:
    """Keeps the figures of a training, measures drift, and raises alerts.

    In a run of Dovetail's own the parts ``drift_monitor``, ``alerts``, ``confidence`` and the trackers do this.

    Args:
        use_wandb: also log to Weights & Biases, as :class:`~dovetail.pieces.metrics_tracker.MetricsTracker` does.
        gradient_accumulation_steps: batches per update. Steps are given in batches, from 0; figures are kept under the
            update that batch belongs to, ``step // gradient_accumulation_steps``.
        drift_threshold_warning: from this Jensen-Shannon divergence on a feature has drifted.
        drift_threshold_critical: from this one on that is critical.
        alert_config: limits of the figures; the usual ones unless given.

    Raises:
        ValueError: a number is out of range, or the thresholds cross.
        ModuleNotFoundError: ``use_wandb`` without wandb installed.
    """

    def __init__(
        self,
        use_wandb: bool = False,  # noqa: FBT001, FBT002 (the documents' signature)
        gradient_accumulation_steps: int = 1,
        drift_threshold_warning: float = 0.1,
        drift_threshold_critical: float = 0.2,
        alert_config: AlertConfig | None = None,
    ) -> None:
        if gradient_accumulation_steps < 1:
            raise ValueError(f"gradient_accumulation_steps must be at least 1, got {gradient_accumulation_steps}")
        if not 0 < drift_threshold_warning <= drift_threshold_critical:
            message = "drift_threshold_warning must be above 0 and at most drift_threshold_critical"
            raise ValueError(f"{message}, got {drift_threshold_warning:g} and {drift_threshold_critical:g}")
        self._tracker = MetricsTracker(use_wandb)
        self._each = gradient_accumulation_steps
        self._thresholds = {"warning": drift_threshold_warning, "critical": drift_threshold_critical}
        self._checker = RuleChecker((alert_config or AlertConfig()).rules())
        #: Passes on the alerts; ``alerts.listen(function)`` hears of each.
        self.alerts = AlertManager()
        #: By name: (update, value), in the order in which they were logged.
        self.scalars: dict[str, list[tuple[int | None, float]]] = {}
        self._update = 0

    def log_epoch(  # noqa: PLR0917 (the documents' signature)
        self,
        epoch: int,
        train_metrics: Mapping[str, float],
        val_metrics: Mapping[str, float] | None = None,
        learning_rate: float | None = None,
        gradient_norm: float | None = None,
        epoch_duration: float | None = None,
        reference_profile: Profile | None = None,
        current_profile: Any = None,
    ) -> DriftMetrics:
        """Keep the figures of an epoch, look for what gives an alert, and measure drift.

        Args:
            epoch: its number.
            train_metrics: figures of training, such as ``loss``.
            val_metrics: figures of validation; ``loss`` and ``accuracy`` are held to their limits.
            learning_rate: at its end.
            gradient_norm: held to its limit.
            epoch_duration: seconds that it took.
            reference_profile: the reference's profile.
            current_profile: the data to compare, or their profile ``reference_profile.of(data)``.

        Returns:
            The drift; ``healthy`` where there are not both profiles.

        Raises:
            DriftError: the profiles do not fit together; then nothing of the epoch is kept.
        """
        drift, others = no_drift(), {} if epoch_duration is None else {"epoch_duration": epoch_duration}
        if reference_profile is not None and current_profile is not None:
            drift = measure_drift(reference_profile, current_profile, **self._thresholds)
            others["drift"] = drift.js_divergence
        self._tracker.log_epoch(epoch, train_metrics, val_metrics, learning_rate, gradient_norm, others=others)
        row = self._tracker.epochs[-1]
        figures = {ours: row[name] for name, ours in _NAMES.items() if name in row}
        for kind, rule, message in self._checker.check(figures):
            details = {"metric": rule.metric, "value": figures[rule.metric]}
            self.alerts.tell(Alert(kind, message, rule.severity, epoch, self._update, details))
        if drift.status != "healthy":
            details = {"js_divergence": drift.js_divergence, "affected_features": drift.affected_features}
            self.alerts.tell(Alert("drift", drift.in_words(), drift.status, epoch, self._update, details))
        return drift

    def log_scalar(self, name: str, value: float, step: int | None = None) -> None:
        """Keep a figure of a batch.

        Args:
            name: such as ``train/batch_loss``.
            value: the figure.
            step: the batch, from 0; the figure is kept under the update that it belongs to.
        """
        update = None if step is None else step // self._each
        self._update = self._update if update is None else update
        self.scalars.setdefault(name, []).append((update, float(value)))
        self._tracker.log({name: float(value)}, step=update)

    def log_confidence(self, logits: Tensor, labels: Tensor, step: int | None = None) -> dict[str, float]:
        """Keep, and return, how sure the model is: ``top1_confidence``, ``top5_confidence`` and ``entropy`` in nats.

        Args:
            logits: scores, as :class:`~dovetail.metrics.confidence.Confidence` takes them.
            labels: the true labels, −100 where none counts.
            step: the batch, from 0.

        Raises:
            ValueError: shapes do not fit.
        """
        metric = Confidence()
        metric.update(ModelOutput(logits), {"targets": labels})
        found = metric.compute()
        for name, value in found.items():
            self.log_scalar(name, value, step)
        return found

    def has_alerts(self) -> bool:
        """Say whether there was any alert."""
        return self.alerts.has_alerts()

    def get_alerts(self) -> list[dict[str, Any]]:
        """Return the alerts so far, oldest first, with ``type``, ``message``, ``severity``, ``epoch`` …."""
        return self.alerts.get_alerts()

    def get_summary(self) -> pd.DataFrame:
        """Return one row an epoch, one column a figure.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return self._tracker.get_summary()
