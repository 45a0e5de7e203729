"""Rules: which figures of a run give an alert."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from attrs import define, field, fields_dict, frozen

from dovetail.config.diagnostics import suggest
from dovetail.monitor.alerts import Severity
from dovetail.spec.limits import AtLeast

if TYPE_CHECKING:
    from dovetail.train.context import Run


@frozen
class AlertRule:
    """A figure that is watched, and the limits that it should keep to.

    A value that is NaN or infinite breaks every limit.

    Raises:
        ValueError: there is no limit.
    """

    #: Its name: ``val_loss``, ``train_loss``, ``grad_norm``, ``samples_per_second`` …
    metric: str
    above: float | None = None
    below: float | None = None
    #: At most so much above the lowest value so far, as a share of it: 0.2 is 20 %.
    rise: Annotated[float, AtLeast(0)] | None = None
    #: At most so much below the highest value so far, in the figure's own unit.
    drop: Annotated[float, AtLeast(0)] | None = None
    #: Alert when it is broken so many looks in a row.
    patience: Annotated[int, AtLeast(1)] = 1
    severity: Severity = "warning"
    #: Stop the run, too.
    stop: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse a rule that nothing breaks."""
        if self.above is self.below is self.rise is self.drop is None:
            msg = f"the rule for '{self.metric}' needs 'above', 'below', 'rise' or 'drop'"
            raise ValueError(msg)

    def broken(self, value: float, lowest: float, highest: float) -> str | None:
        """Say how ``value`` breaks the rule; None if it keeps it.

        Args:
            value: the figure now.
            lowest: the least finite value before, infinite without one.
            highest: the greatest, minus infinity without one.
        """
        if not math.isfinite(value):
            return f"{self.metric} is {value}"
        if self.above is not None and value > self.above:
            return f"{self.metric} is {value:.6g}, above {self.above:g}"
        if self.below is not None and value < self.below:
            return f"{self.metric} is {value:.6g}, below {self.below:g}"
        if self.rise is not None and value - lowest > self.rise * abs(lowest):
            share = f"{(value - lowest) / abs(lowest):.0%} above" if lowest else "above"
            return f"{self.metric} rose to {value:.6g}, {share} its lowest, {lowest:.6g}"
        if self.drop is not None and highest - value > self.drop:
            return f"{self.metric} fell to {value:.6g}, {highest - value:.3g} below its highest, {highest:.6g}"
        return None


@frozen
class AlertConfig:
    """The limits that every run has a use for.

    Raises:
        ValueError: a threshold is below 0, or the patience below 1.
    """

    #: Validation loss above its lowest by more than this share of it: ``val_loss_spike``.
    val_loss_spike_threshold: float = 0.2
    #: Validation accuracy (0 to 1) below its highest by more than this: ``accuracy_drop``.
    accuracy_drop_threshold: float = 0.05
    #: A norm of the gradients, before clipping, above this: ``gradient_norm``.
    gradient_norm_threshold: float = 10.0
    #: Alert when a limit is broken in so many epochs in a row.
    patience_epochs: int = 1

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in fields_dict(AlertConfig):
            least = 1 if name == "patience_epochs" else 0
            if getattr(self, name) < least:
                msg = f"{name} must be at least {least}, got {getattr(self, name)}"
                raise ValueError(msg)

    def rules(self) -> dict[str, AlertRule]:
        """Return them as rules, by the type of their alerts."""
        patience = self.patience_epochs
        return {
            "val_loss_spike": AlertRule("val_loss", rise=self.val_loss_spike_threshold, patience=patience),
            "accuracy_drop": AlertRule("val_accuracy", drop=self.accuracy_drop_threshold, patience=patience),
            "gradient_norm": AlertRule("grad_norm", above=self.gradient_norm_threshold, patience=patience),
        }


@define
class _Course:
    """How a figure went so far."""

    lowest: float = math.inf
    highest: float = -math.inf
    broken: int = 0


@define
class Watch:
    """Looks at figures and says which rules they break: once when one is broken, and anew after it was kept again."""

    #: By the type of alert.
    rules: Mapping[str, AlertRule]
    _courses: dict[str, _Course] = field(factory=dict, init=False)

    def look(self, figures: Mapping[str, float]) -> Iterator[tuple[str, AlertRule, str]]:
        """Take in ``figures``, and yield the type, the rule and the message of each alert.

        Rules for figures that are not there wait until they are.
        """
        for name, rule in self.rules.items():
            if rule.metric not in figures:
                continue
            value, course = float(figures[rule.metric]), self._courses.setdefault(name, _Course())
            message = rule.broken(value, course.lowest, course.highest)
            if math.isfinite(value):
                course.lowest, course.highest = min(course.lowest, value), max(course.highest, value)
            course.broken = course.broken + 1 if message else 0
            if message and course.broken == rule.patience:
                yield name, rule, message + (f", for {rule.patience} looks in a row" if rule.patience > 1 else "")

    def state_dict(self) -> dict[str, Any]:
        """Return how the figures went."""
        return {name: (one.lowest, one.highest, one.broken) for name, one in self._courses.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._courses = {name: _Course(*one) for name, one in state.items()}


class AlertRules:
    """Raises an alert when a figure breaks a limit: a spike of the loss, a drop of the accuracy, a gradient too large.

    Figures of validation are looked at after every validation, others after every epoch: ``grad_norm`` is then the
    largest norm that was logged in it.

    Args:
        val_loss_spike_threshold: alert ``val_loss_spike`` when the validation loss is above its lowest by more than
            this share of it.
        accuracy_drop_threshold: alert ``accuracy_drop`` when the validation accuracy is below its highest by more than
            this, of 1.
        gradient_norm_threshold: alert ``gradient_norm`` when the norm of the gradients, before clipping, is above.
        patience_epochs: alert when one of these is broken so many looks in a row.
        rules: further rules, by the type of their alerts; one with the name of a rule above takes its place.
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
        self._watch = Watch({**limits.rules(), **(rules or {})})
        self._own, self._seen = dict(rules or {}), set[str]()
        #: The largest norm of the gradients that was logged in the epoch; below 0 before the first.
        self._norm = -1.0

    def dovetail_log(self, run: Run, event: str, metrics: Mapping[str, float]) -> None:
        """Look at figures."""
        if event == "train" and "grad_norm" in metrics:
            self._norm = max(self._norm, metrics["grad_norm"])
        if event not in {"validation", "epoch", "monitor"}:
            return
        figures = dict(metrics)
        if event == "epoch":  # which tells the figures of its validation again
            figures = {name: value for name, value in metrics.items() if not name.startswith("val_")}
            if self._norm >= 0:
                figures["grad_norm"] = self._norm
            self._norm = -1.0
        self._seen.update(figures)
        for name, rule, message in self._watch.look(figures):
            run.alert(name, message, severity=rule.severity, metric=rule.metric, value=figures[rule.metric])
            if rule.stop:
                run.request_stop(message, by=self)

    def dovetail_epoch_end(self, run: Run) -> None:
        """Name a rule for which there was nothing to look at, once validation has told its figures."""
        if run.parts.loaders.validation is not None and "val_loss" not in self._seen:
            return
        for name, rule in self._own.items():
            if rule.metric not in self._seen:
                message = f"rule '{name}' has seen nothing yet: there was no figure '{rule.metric}'"
                message += f"{suggest(rule.metric, self._seen)}; there were {', '.join(sorted(self._seen))}"
                run.alert("alert_rule", message, about=name, cooldown=math.inf)
        self._own = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"watch": self._watch.state_dict(), "norm": self._norm}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._watch.load_state_dict(state["watch"])
        self._norm = state["norm"]
