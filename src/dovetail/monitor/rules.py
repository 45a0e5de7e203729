"""Alert rules: limits on the metrics of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from attrs import define, field, fields_dict, frozen

from dovetail.config.diagnostics import suggest
from dovetail.monitor.alerts import Severity
from dovetail.spec import AtLeast

if TYPE_CHECKING:
    from dovetail.train.context import Run


@frozen
class AlertRule:
    """A metric, and its limits. A value that is NaN or infinite breaks every limit.

    Raises:
        ValueError: the rule has no limit.
    """

    #: The name of the metric: ``val_loss``, ``train_loss``, ``grad_norm``, ``samples_per_second`` …
    metric: str
    #: Alert if the value is above this.
    above: float | None = None
    #: Alert if the value is below this.
    below: float | None = None
    #: Alert if the value exceeds the lowest so far by more than this fraction of it: 0.2 is 20 %.
    rise: Annotated[float, AtLeast(0)] | None = None
    #: Alert if the value is below the highest so far by more than this, in the unit of the metric.
    drop: Annotated[float, AtLeast(0)] | None = None
    #: Alert when the rule is broken in this many checks in a row.
    patience: Annotated[int, AtLeast(1)] = 1
    severity: Severity = "warning"
    #: Also stop the run.
    stop: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse a rule without a limit."""
        if self.above is self.below is self.rise is self.drop is None:
            raise ValueError(f"the rule for '{self.metric}' needs 'above', 'below', 'rise' or 'drop'")

    def broken(self, value: float, lowest: float, highest: float) -> str | None:
        """Return how ``value`` breaks the rule, or None if it does not.

        Args:
            value: the current value.
            lowest: the lowest finite value before it; infinity if there is none.
            highest: the highest finite value before it; minus infinity if there is none.
        """
        if not math.isfinite(value):
            return f"{self.metric} is {value}"
        if self.above is not None and value > self.above:
            return f"{self.metric} is {value:.6g}, above {self.above:g}"
        if self.below is not None and value < self.below:
            return f"{self.metric} is {value:.6g}, below {self.below:g}"
        if self.rise is not None and value - lowest > self.rise * abs(lowest):
            percent = f"{(value - lowest) / abs(lowest):.0%} above" if lowest else "above"
            return f"{self.metric} rose to {value:.6g}, {percent} its lowest, {lowest:.6g}"
        if self.drop is not None and highest - value > self.drop:
            return f"{self.metric} fell to {value:.6g}, {highest - value:.3g} below its highest, {highest:.6g}"
        return None


@frozen
class AlertConfig:
    """The limits of the built-in alert rules.

    Raises:
        ValueError: a threshold is below 0, or the patience below 1.
    """

    #: ``val_loss_spike``: the validation loss exceeds its lowest value by more than this fraction of it.
    val_loss_spike_threshold: float = 0.2
    #: ``accuracy_drop``: the validation accuracy (0 to 1) is below its highest value by more than this.
    accuracy_drop_threshold: float = 0.05
    #: ``gradient_norm``: the norm of the gradients, before clipping, is above this.
    gradient_norm_threshold: float = 10.0
    #: Alert when a limit is broken in this many epochs in a row.
    patience_epochs: int = 1

    def __attrs_post_init__(self) -> None:
        """Check the ranges."""
        for name in fields_dict(AlertConfig):
            least = 1 if name == "patience_epochs" else 0
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def rules(self) -> dict[str, AlertRule]:
        """Return the limits as rules, by the type of their alerts."""
        patience = self.patience_epochs
        return {
            "val_loss_spike": AlertRule("val_loss", rise=self.val_loss_spike_threshold, patience=patience),
            "accuracy_drop": AlertRule("val_accuracy", drop=self.accuracy_drop_threshold, patience=patience),
            "gradient_norm": AlertRule("grad_norm", above=self.gradient_norm_threshold, patience=patience),
        }


@define
class _Course:
    """The values of a metric so far."""

    lowest: float = math.inf
    highest: float = -math.inf
    broken: int = 0


@define
class RuleChecker:
    """Checks metrics against rules. A broken rule alerts once, and again only after it was kept in between."""

    #: The rules by the type of their alerts.
    rules: Mapping[str, AlertRule]
    _courses: dict[str, _Course] = field(factory=dict, init=False)

    def check(self, metrics: Mapping[str, float]) -> Iterator[tuple[str, AlertRule, str]]:
        """Check ``metrics``, and yield the type, the rule and the message of each alert.

        A rule whose metric is absent is not checked.
        """
        for name, rule in self.rules.items():
            if rule.metric not in metrics:
                continue
            value, course = float(metrics[rule.metric]), self._courses.setdefault(name, _Course())
            message = rule.broken(value, course.lowest, course.highest)
            if math.isfinite(value):
                course.lowest, course.highest = min(course.lowest, value), max(course.highest, value)
            course.broken = course.broken + 1 if message else 0
            if message and course.broken == rule.patience:
                yield name, rule, message + (f", in {rule.patience} checks in a row" if rule.patience > 1 else "")

    def state_dict(self) -> dict[str, Any]:
        """Return the values so far."""
        return {name: (course.lowest, course.highest, course.broken) for name, course in self._courses.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._courses = {name: _Course(*course) for name, course in state.items()}


class AlertRules:
    """Raises an alert when a metric breaks a limit, such as a spike of the loss or a drop of the accuracy.

    Metrics of validation are checked after every validation, others after every epoch; ``grad_norm`` is then the
    largest norm logged in the epoch.

    Args:
        val_loss_spike_threshold: alert ``val_loss_spike`` when the validation loss exceeds its lowest value by more
            than this fraction of it.
        accuracy_drop_threshold: alert ``accuracy_drop`` when the validation accuracy (0 to 1) is below its highest
            value by more than this.
        gradient_norm_threshold: alert ``gradient_norm`` when the norm of the gradients, before clipping, is above this.
        patience_epochs: alert when one of these limits is broken in this many checks in a row.
        rules: more rules, by the type of their alerts; a rule with one of the names above replaces it.
    """

    def __init__(
        self,
        val_loss_spike_threshold: Annotated[float, AtLeast(0)] = 0.2,
        accuracy_drop_threshold: Annotated[float, AtLeast(0)] = 0.05,
        gradient_norm_threshold: Annotated[float, AtLeast(0)] = 10.0,
        patience_epochs: Annotated[int, AtLeast(1)] = 1,
        rules: dict[str, AlertRule] | None = None,
    ) -> None:
        limits = AlertConfig(
            val_loss_spike_threshold, accuracy_drop_threshold, gradient_norm_threshold, patience_epochs
        )
        self._checker = RuleChecker({**limits.rules(), **(rules or {})})
        self._own, self._seen = dict(rules or {}), set[str]()
        #: The largest gradient norm logged in the epoch; -1 before the first.
        self._norm = -1.0

    def dovetail_log(self, run: Run, event: str, metrics: Mapping[str, float]) -> None:
        """Check the metrics of an event."""
        if event == "train" and "grad_norm" in metrics:
            self._norm = max(self._norm, metrics["grad_norm"])
        if event not in {"validation", "epoch", "monitor"}:
            return
        values = dict(metrics)
        if event == "epoch":  # it repeats the metrics of its validation
            values = {name: value for name, value in metrics.items() if not name.startswith("val_")}
            if self._norm >= 0:
                values["grad_norm"] = self._norm
            self._norm = -1.0
        self._seen.update(values)
        for name, rule, message in self._checker.check(values):
            run.alert(name, message, severity=rule.severity, metric=rule.metric, value=values[rule.metric])
            if rule.stop:
                run.request_stop(message, by=self)

    def dovetail_epoch_end(self, run: Run) -> None:
        """Report rules whose metric does not exist, after the first validation if there is one."""
        if run.parts.loaders.validation is not None and "val_loss" not in self._seen:
            return
        for name, rule in self._own.items():
            if rule.metric not in self._seen:
                message = f"rule '{name}' cannot be checked: no metric '{rule.metric}' was logged"
                message += f"{suggest(rule.metric, self._seen)}; there were {', '.join(sorted(self._seen))}"
                run.alert("alert_rule", message, about=name, cooldown=math.inf)
        self._own = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the rules."""
        return {"watch": self._checker.state_dict(), "norm": self._norm}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._checker.load_state_dict(state["watch"])
        self._norm = state["norm"]
