"""Metrics of epochs in a loop of your own: a table, drift and alerts. Imported without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dovetail.monitor.alerts import Alert, AlertManager
from dovetail.monitor.drift import DriftMetrics, measure_drift, no_drift
from dovetail.monitor.rules import AlertConfig, RuleChecker

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dovetail.monitor.profile import DataProfile

#: Metrics of an epoch that have limits, and the names that the limits have for them.
_LIMITED: Final = {"val_loss": "val_loss", "val_accuracy": "val_accuracy", "gradient_norm": "grad_norm"}


class MetricsTracker:
    """Collects the metrics of every epoch in a table.

    In a run, ``metrics.jsonl`` and the run file's ``[trackers]`` do this.

    Args:
        use_wandb: also log to Weights & Biases: to the current W&B run, or else to a new one, which is offline unless
            there is a key (``WANDB_API_KEY``).

    Raises:
        ModuleNotFoundError: ``use_wandb`` without wandb installed.
    """

    def __init__(self, use_wandb: bool = False) -> None:  # noqa: FBT001, FBT002 (the documented signature)
        #: One entry per epoch, in the order of logging.
        self.epochs: list[dict[str, float]] = []
        self._wandb_run = _wandb_run() if use_wandb else None

    def log_epoch(
        self,
        epoch: int,
        train_metrics: Mapping[str, float],
        val_metrics: Mapping[str, float] | None = None,
        learning_rate: float | None = None,
        gradient_norm: float | None = None,
        *,
        others: Mapping[str, float] | None = None,
    ) -> None:
        """Log the metrics of an epoch; logging an epoch again replaces its entry.

        Args:
            epoch: the epoch's number.
            train_metrics: metrics of training, stored as ``train_…``.
            val_metrics: metrics of validation, stored as ``val_…``.
            learning_rate: stored as ``learning_rate``.
            gradient_norm: stored as ``gradient_norm``.
            others: further metrics, stored under their own names.
        """
        row: dict[str, float] = {"epoch": epoch}
        row |= {f"train_{name}": value for name, value in train_metrics.items()}
        row |= {f"val_{name}": value for name, value in (val_metrics or {}).items()}
        optional = {"learning_rate": learning_rate, "gradient_norm": gradient_norm}
        row |= {name: value for name, value in optional.items() if value is not None} | dict(others or {})
        self.epochs = [logged for logged in self.epochs if logged["epoch"] != epoch] + [row]
        if self._wandb_run is not None:
            self._wandb_run.log(row)

    def log(self, figures: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics of less than an epoch to Weights & Biases, if it is used; the table does not include them."""
        if self._wandb_run is not None:
            self._wandb_run.log(dict(figures), step=step)

    def get_summary(self) -> pd.DataFrame:
        """Return a table with a row per epoch and a column per metric; NaN where an epoch lacks a metric.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("a DataFrame needs pandas: pip install 'dovetail[pandas]'") from error
        return pd.DataFrame(self.epochs, columns=None if self.epochs else ["epoch"])


def _wandb_run() -> Any:
    import os

    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("use_wandb = True needs wandb: pip install 'dovetail-trackers[wandb]'") from error
    offline = not os.environ.get("WANDB_API_KEY") and not os.environ.get("WANDB_MODE")
    return wandb.run or wandb.init(mode="offline" if offline else None)


class MetricsEngine:
    """Collects the metrics of a training, measures drift, and raises alerts.

    In a run, the parts ``drift_monitor``, ``alerts``, ``confidence`` and the trackers do this.

    Args:
        use_wandb: also log to Weights & Biases, as :class:`MetricsTracker` does.
        gradient_accumulation_steps: batches per update, at least 1. Steps are zero-based indices of batches; metrics
            are stored under the index of the batch's update, ``step // gradient_accumulation_steps``.
        drift_threshold_warning: a feature has drifted from this Jensen-Shannon divergence on, > 0.
        drift_threshold_critical: drift is critical from this Jensen-Shannon divergence on.
        alert_config: the limits of the metrics; None for the defaults.

    Raises:
        ValueError: a number is out of range, or the warning threshold is above the critical one.
        ModuleNotFoundError: ``use_wandb`` without wandb installed.
    """

    def __init__(
        self,
        use_wandb: bool = False,  # noqa: FBT001, FBT002 (the documented signature)
        gradient_accumulation_steps: int = 1,
        drift_threshold_warning: float = 0.1,
        drift_threshold_critical: float = 0.2,
        alert_config: AlertConfig | None = None,
    ) -> None:
        if gradient_accumulation_steps < 1:
            raise ValueError(f"gradient_accumulation_steps must be at least 1, got {gradient_accumulation_steps}")
        if not 0 < drift_threshold_warning <= drift_threshold_critical:
            raise ValueError(
                "drift_threshold_warning must be above 0 and at most drift_threshold_critical, "
                f"got {drift_threshold_warning:g} and {drift_threshold_critical:g}"
            )
        self._tracker = MetricsTracker(use_wandb)
        self._accumulation_steps = gradient_accumulation_steps
        self._thresholds = {"warning": drift_threshold_warning, "critical": drift_threshold_critical}
        self._checker = RuleChecker((alert_config or AlertConfig()).rules())
        #: Passes the alerts on; ``alerts.listen(function)`` registers a function that is called with each alert.
        self.alerts = AlertManager()
        #: (update, value) pairs in the order of logging, by name.
        self.scalars: dict[str, list[tuple[int | None, float]]] = {}
        self._update = 0

    def log_epoch(  # noqa: PLR0917 (the documented signature)
        self,
        epoch: int,
        train_metrics: Mapping[str, float],
        val_metrics: Mapping[str, float] | None = None,
        learning_rate: float | None = None,
        gradient_norm: float | None = None,
        epoch_duration: float | None = None,
        reference_profile: DataProfile | None = None,
        current_profile: Any = None,
    ) -> DriftMetrics:
        """Log the metrics of an epoch, raise alerts, and measure drift.

        Args:
            epoch: the epoch's number.
            train_metrics: metrics of training, such as ``loss``.
            val_metrics: metrics of validation; ``loss`` and ``accuracy`` have limits.
            learning_rate: the learning rate at the end of the epoch.
            gradient_norm: the gradient norm, which has a limit.
            epoch_duration: the epoch's duration in seconds.
            reference_profile: the profile of the reference data.
            current_profile: the data to compare, or their profile ``reference_profile.of(data)``.

        Returns:
            The drift; its status is ``healthy`` unless both profiles are given.

        Raises:
            DriftError: the profiles do not fit together; then nothing is logged.
        """
        drift, others = no_drift(), {} if epoch_duration is None else {"epoch_duration": epoch_duration}
        if reference_profile is not None and current_profile is not None:
            drift = measure_drift(reference_profile, current_profile, **self._thresholds)
            others["drift"] = drift.js_divergence
        self._tracker.log_epoch(epoch, train_metrics, val_metrics, learning_rate, gradient_norm, others=others)
        row = self._tracker.epochs[-1]
        figures = {limited: row[name] for name, limited in _LIMITED.items() if name in row}
        for kind, rule, message in self._checker.check(figures):
            details = {"metric": rule.metric, "value": figures[rule.metric]}
            self.alerts.tell(Alert(kind, message, rule.severity, epoch, self._update, details))
        if drift.status != "healthy":
            details = {"js_divergence": drift.js_divergence, "affected_features": drift.affected_features}
            self.alerts.tell(Alert("drift", drift.in_words(), drift.status, epoch, self._update, details))
        return drift

    def log_scalar(self, name: str, value: float, step: int | None = None) -> None:
        """Log a metric of a batch.

        Args:
            name: a name such as ``train/batch_loss``.
            value: the metric's value.
            step: the zero-based index of the batch.
        """
        update = None if step is None else step // self._accumulation_steps
        self._update = self._update if update is None else update
        self.scalars.setdefault(name, []).append((update, float(value)))
        self._tracker.log({name: float(value)}, step=update)

    def log_confidence(self, logits: Tensor, labels: Tensor, step: int | None = None) -> dict[str, float]:
        """Log and return the confidence of the model: ``top1_confidence``, ``top5_confidence`` and ``entropy`` in nats.

        Args:
            logits: class scores, as for :class:`~dovetail.metrics.confidence.Confidence`.
            labels: the true labels; −100 excludes a sample.
            step: the zero-based index of the batch.

        Raises:
            ValueError: shapes do not fit.
        """
        from dovetail.metrics.confidence import Confidence  # imports torch, as ModelOutput does
        from dovetail.models.output import ModelOutput

        metric = Confidence()
        metric.update(ModelOutput(logits), {"targets": labels})
        found = metric.compute()
        for name, value in found.items():
            self.log_scalar(name, value, step)
        return found

    def has_alerts(self) -> bool:
        """Return whether there was any alert."""
        return self.alerts.has_alerts()

    def get_alerts(self) -> list[dict[str, Any]]:
        """Return the alerts so far, oldest first, with ``type``, ``message``, ``severity``, ``epoch`` and so on."""
        return self.alerts.get_alerts()

    def get_summary(self) -> pd.DataFrame:
        """Return a table with a row per epoch and a column per metric; errors as for ``MetricsTracker.get_summary``."""
        return self._tracker.get_summary()
