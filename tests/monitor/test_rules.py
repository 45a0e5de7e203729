"""Alert rules: when a limit is broken, alone and in runs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from dovetail.monitor.rules import AlertConfig, AlertRule, RuleChecker
from small_runs import only_run, small


def kinds(checker: RuleChecker, course: list[dict[str, float]]) -> list[list[str]]:
    """Return the types of alerts, check by check."""
    return [[name for name, _, _ in checker.check(metrics)] for metrics in course]


def test_default_limits():
    """A loss 20 % above its lowest, an accuracy 0.05 below its highest, a norm above 10; a limit itself is allowed."""
    checker = RuleChecker(AlertConfig().rules())
    course = [
        {"val_loss": 1.0, "val_accuracy": 0.8, "grad_norm": 10.0},
        {"val_loss": 1.2, "val_accuracy": 0.76, "grad_norm": 10.1},
        {"val_loss": 1.3, "val_accuracy": 0.7},
        {"val_loss": 1.4, "val_accuracy": 0.9},
        {"val_loss": 0.5, "val_accuracy": 0.84, "grad_norm": math.nan},
    ]

    assert kinds(checker, course) == [
        [],
        ["gradient_norm"],
        ["val_loss_spike", "accuracy_drop"],
        [],  # still high: no second alert
        ["accuracy_drop"],  # and the norm did not recover
    ]


def test_patience_allows_single_bad_epochs():
    """The message says in how many checks the limit was broken."""
    checker = RuleChecker(AlertConfig(patience_epochs=2).rules())
    found = [list(checker.check({"val_loss": value})) for value in (1.0, 1.5, 1.0, 1.5, 1.6, 1.7, 1.0, 2.0, 2.0)]

    assert [len(alerts) for alerts in found] == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found[4][0][2] == "val_loss rose to 1.6, 60% above its lowest, 1, in 2 checks in a row"


@given(
    st.lists(st.floats(-100, 100) | st.just(math.nan) | st.just(math.inf), min_size=1, max_size=30),
    st.integers(0, 29),
    st.integers(1, 3),
)
def test_a_restored_checker_raises_the_same_alerts(values, cut, patience):
    """Wherever it was saved."""
    rules = {"rise": AlertRule("x", rise=0.1, patience=patience), "low": AlertRule("x", below=-50.0)}
    course, whole, first, second = (
        [{"x": value} for value in values],
        RuleChecker(rules),
        RuleChecker(rules),
        RuleChecker(rules),
    )
    before = kinds(first, course[:cut])
    second.load_state_dict(first.state_dict())

    assert before + kinds(second, course[cut:]) == kinds(whole, course)


@given(st.floats(0.01, 100), st.floats(0, 2), st.floats(0.01, 100))
def test_a_rise_is_a_fraction_of_the_lowest(lowest, rise, value):
    """The rule is broken exactly when the value is above lowest + rise · lowest."""
    broken = AlertRule("x", rise=rise).broken(value, lowest, lowest)

    assert (broken is not None) == (value - lowest > rise * lowest)


def test_invalid_limits_are_refused():
    """A rule without a limit, and thresholds below 0."""
    with pytest.raises(ValueError, match="needs 'above', 'below', 'rise' or 'drop'"):
        AlertRule("x")
    with pytest.raises(ValueError, match="accuracy_drop_threshold must be at least 0, got -1"):
        AlertConfig(accuracy_drop_threshold=-1)
    with pytest.raises(ValueError, match="patience_epochs must be at least 1, got 0"):
        AlertConfig(patience_epochs=0)


class Forget:
    """A callback that spoils the model after an epoch, and collects alerts."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.heard: list[Any] = []

    def dovetail_epoch_end(self, run: Any, epoch: int) -> None:
        """Spoil the weights after the epoch before."""
        if epoch == self.at - 1:
            with torch.no_grad():
                for parameter in run.parts.model.parameters():
                    parameter.mul_(-5)

    def dovetail_alert(self, alert: Any) -> None:
        """Keep it."""
        self.heard.append(alert)


def test_a_run_reports_a_spike_to_parts_log_and_folder(tmp_path):
    """A rising loss and a falling accuracy alert once each: to parts, log.txt and alerts.jsonl."""
    forget = Forget(3)
    run(small(tmp_path, callbacks={"alerts": {"type": "alerts"}, "forget": forget}, training={"max_epochs": 4}))
    folder = only_run(tmp_path)
    lines = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]

    assert {alert.type for alert in forget.heard} >= {"val_loss_spike", "accuracy_drop"}
    assert {alert.epoch for alert in forget.heard if alert.type == "val_loss_spike"} == {3}
    assert [alert["type"] for alert in lines] == [alert.type for alert in forget.heard]
    assert lines[0]["details"]["metric"] in {"val_loss", "val_accuracy"}
    log = (folder / "log.txt").read_text()
    assert all(line["message"] in log for line in lines)


def test_a_custom_rule_stops_the_run(tmp_path):
    """Its type is its name in the run file, and the outcome names the part."""
    rules = {"forgot": {"metric": "val_loss", "above": 1.5, "severity": "critical", "stop": True}}
    forget = Forget(3)
    callbacks = {"watch": {"type": "alerts", "rules": rules}, "forget": forget}
    outcome = run(small(tmp_path, callbacks=callbacks, training={"max_epochs": 6}))

    assert (outcome.status, outcome.stopped_by) == ("stopped_early", "callbacks.watch")
    assert outcome.reason.startswith("val_loss is ")
    assert {(alert.type, alert.severity) for alert in forget.heard} >= {("forgot", "critical")}


def test_a_rule_for_an_unknown_metric_is_reported(tmp_path):
    """Once, after the first validation, with the nearest name; rules with a metric are not reported."""
    rules = {"typo": {"metric": "val_los", "above": 1.5}, "good": {"metric": "train_loss", "above": 1e9}}
    callbacks = {"watch": {"type": "alerts", "rules": rules}}
    outcome = run(small(tmp_path, callbacks=callbacks, training={"max_epochs": 3}))
    (alert,) = [json.loads(line) for line in (only_run(tmp_path) / "alerts.jsonl").read_text().splitlines()]

    assert outcome.status == "completed"
    assert (alert["type"], alert["epoch"]) == ("alert_rule", 1)
    assert "rule 'typo' cannot be checked: no metric 'val_los' was logged; did you mean 'val_loss'?" in alert["message"]


def test_a_rule_is_checked_with_the_config(tmp_path):
    """An unknown key and a rule without a limit are errors at their place."""
    with pytest.raises(ConfigError, match=r"callbacks\.a\.rules\.x.*above"):
        small(tmp_path, callbacks={"a": {"type": "alerts", "rules": {"x": {"metric": "y", "abve": 1.0}}}})
    with pytest.raises(ConfigError, match="needs 'above', 'below', 'rise' or 'drop'"):
        small(tmp_path, callbacks={"a": {"type": "alerts", "rules": {"x": {"metric": "y"}}}})
