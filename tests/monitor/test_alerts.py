"""Alerts: who hears of them, how often, and the rules that raise them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.diagnostics import ConfigError
from dovetail.data import Splits
from dovetail.main import run
from dovetail.monitor.alerts import Alert, AlertManager
from dovetail.monitor.rules import AlertConfig, AlertRule, Watch
from small_runs import blobs, only_run, small


def at(step: int, severity: Any = "warning") -> Alert:
    """Return an alert of one type."""
    return Alert("drift", f"at {step}", severity, step=step)


def test_a_repeated_alert_is_held_back_and_counted():
    """Within the cool-down it is not told; the next one that is says how many were not."""
    heard: list[Alert] = []
    manager = AlertManager(heard.append)
    told = [manager.tell(at(step), cooldown=10) for step in (0, 3, 9, 10, 11, 25)]

    assert told == [True, False, False, True, False, True]
    assert [(one.step, one.details.get("repeats")) for one in heard] == [(0, None), (10, 2), (25, 1)]
    assert [one["message"] for one in manager.get_alerts()] == ["at 0", "at 10", "at 25"]


def test_what_gets_worse_is_told_at_once():
    """A critical alert passes the cool-down of a warning, and a warning after it does not."""
    manager = AlertManager()
    told = [manager.tell(at(step, how), cooldown=100) for step, how in enumerate(["warning", "critical", "warning"])]

    assert told == [True, True, False]


def test_alerts_about_other_things_are_others():
    """Each type, and each thing that an alert is about, has a cool-down of its own; without one all are told."""
    manager = AlertManager()

    assert manager.tell(at(0), about="a", cooldown=9)
    assert manager.tell(at(1), about="b", cooldown=9)
    assert not manager.tell(at(2), about="a", cooldown=9)
    assert all(manager.tell(Alert("copy", "x")) for _ in range(3))
    assert manager.has_alerts()
    assert not AlertManager().has_alerts()


def kinds(watch: Watch, course: list[dict[str, float]]) -> list[list[str]]:
    """Return the types of alerts, look by look."""
    return [[name for name, _, _ in watch.look(figures)] for figures in course]


def test_the_documents_limits():
    """A loss 20 % above its lowest, an accuracy 0.05 below its highest, a norm above 10; at a limit there is none."""
    watch = Watch(AlertConfig().rules())
    course = [
        {"val_loss": 1.0, "val_accuracy": 0.8, "grad_norm": 10.0},
        {"val_loss": 1.2, "val_accuracy": 0.76, "grad_norm": 10.1},
        {"val_loss": 1.3, "val_accuracy": 0.7},
        {"val_loss": 1.4, "val_accuracy": 0.9},
        {"val_loss": 0.5, "val_accuracy": 0.84, "grad_norm": math.nan},
    ]

    assert kinds(watch, course) == [
        [],
        ["gradient_norm"],
        ["val_loss_spike", "accuracy_drop"],
        [],  # still as high as before: told once
        ["accuracy_drop"],  # and the norm has not come down since
    ]


def test_patience():
    """With a patience of 2 a single bad epoch is forgiven, and the message says how many there were."""
    watch = Watch(AlertConfig(patience_epochs=2).rules())
    found = [list(watch.look({"val_loss": value})) for value in (1.0, 1.5, 1.0, 1.5, 1.6, 1.7, 1.0, 2.0, 2.0)]

    assert [len(one) for one in found] == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found[4][0][2] == "val_loss rose to 1.6, 60% above its lowest, 1, for 2 looks in a row"


@given(
    st.lists(st.floats(-100, 100) | st.just(math.nan) | st.just(math.inf), min_size=1, max_size=30),
    st.integers(0, 29),
    st.integers(1, 3),
)
def test_a_watch_goes_on_from_its_state(values, cut, patience):
    """Saved and loaded anywhere, it raises the alerts that it would have raised."""
    rules = {"rise": AlertRule("x", rise=0.1, patience=patience), "low": AlertRule("x", below=-50.0)}
    course, whole, first, second = [{"x": value} for value in values], Watch(rules), Watch(rules), Watch(rules)
    before = kinds(first, course[:cut])
    second.load_state_dict(first.state_dict())

    assert before + kinds(second, course[cut:]) == kinds(whole, course)


@given(st.floats(0.01, 100), st.floats(0, 2), st.floats(0.01, 100))
def test_a_rise_is_a_share_of_the_lowest(lowest, rise, value):
    """Told exactly when the value is above lowest + rise · lowest."""
    broken = AlertRule("x", rise=rise).broken(value, lowest, lowest)

    assert (broken is not None) == (value - lowest > rise * lowest)


def test_limits_that_cannot_be_meant():
    """A rule that nothing breaks, and thresholds below 0, are refused."""
    with pytest.raises(ValueError, match="needs 'above', 'below', 'rise' or 'drop'"):
        AlertRule("x")
    with pytest.raises(ValueError, match="accuracy_drop_threshold must be at least 0, got -1"):
        AlertConfig(accuracy_drop_threshold=-1)
    with pytest.raises(ValueError, match="patience_epochs must be at least 1, got 0"):
        AlertConfig(patience_epochs=0)


class Forget:
    """A callback that shakes the model in an epoch, and keeps what alerts it hears of."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.heard: list[Any] = []

    def dovetail_epoch_end(self, run: Any, epoch: int) -> None:
        """Spoil the weights after the epoch before."""
        if epoch == self.at - 1:
            with torch.no_grad():
                for one in run.parts.model.parameters():
                    one.mul_(-5)

    def dovetail_alert(self, alert: Any) -> None:
        """Keep it."""
        self.heard.append(alert)


def test_a_run_tells_of_a_spike_in_its_log_its_folder_and_its_parts(tmp_path):
    """A loss that really rises, and an accuracy that falls, are told once: to parts, log.txt and alerts.jsonl."""
    forget = Forget(3)
    run(small(tmp_path, callbacks={"alerts": {"type": "alerts"}, "forget": forget}, training={"max_epochs": 4}))
    folder = only_run(tmp_path)
    lines = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]

    assert {one.type for one in forget.heard} >= {"val_loss_spike", "accuracy_drop"}
    assert {one.epoch for one in forget.heard if one.type == "val_loss_spike"} == {3}
    assert [one["type"] for one in lines] == [one.type for one in forget.heard]
    assert lines[0]["details"]["metric"] in {"val_loss", "val_accuracy"}
    log = (folder / "log.txt").read_text()
    assert all(one["message"] in log for one in lines)


def test_a_rule_of_ones_own_stops_the_run(tmp_path):
    """Its type is its name in the run file; ``stop = true`` ends the run, and says which part did."""
    rules = {"forgot": {"metric": "val_loss", "above": 1.5, "severity": "critical", "stop": True}}
    forget = Forget(3)
    callbacks = {"watch": {"type": "alerts", "rules": rules}, "forget": forget}
    outcome = run(small(tmp_path, callbacks=callbacks, training={"max_epochs": 6}))

    assert (outcome.status, outcome.stopped_by) == ("stopped_early", "callbacks.watch")
    assert outcome.reason.startswith("val_loss is ")
    assert {(one.type, one.severity) for one in forget.heard} >= {("forgot", "critical")}


def test_a_rule_for_a_figure_that_is_not_there_is_named(tmp_path):
    """Once, after the first validation, with what was probably meant; rules that have figures are not."""
    rules = {"typo": {"metric": "val_los", "above": 1.5}, "good": {"metric": "train_loss", "above": 1e9}}
    callbacks = {"watch": {"type": "alerts", "rules": rules}}
    outcome = run(small(tmp_path, callbacks=callbacks, training={"max_epochs": 3}))
    (told,) = [json.loads(line) for line in (only_run(tmp_path) / "alerts.jsonl").read_text().splitlines()]

    assert outcome.status == "completed"
    assert (told["type"], told["epoch"]) == ("alert_rule", 1)
    assert (
        "rule 'typo' has seen nothing yet: there was no figure 'val_los'; did you mean 'val_loss'?" in told["message"]
    )


def test_early_stopping_without_validation_says_so(tmp_path):
    """A part that can never do what it is there for is not silent."""
    splits = Splits(blobs(40), None, None)
    for monitor in ("val_loss", "train_loss"):
        callbacks = {"patience": {"type": "early_stopping", "monitor": monitor}}
        run(small(tmp_path / monitor, data=splits, callbacks=callbacks)).check()

    told = (only_run(tmp_path / "val_loss") / "alerts.jsonl").read_text()
    assert "there is no validation split, so val_loss is never measured" in told
    assert not (only_run(tmp_path / "train_loss") / "alerts.jsonl").exists()


def test_a_rule_is_checked_with_the_config(tmp_path):
    """An unknown key and a rule without a limit are refused at their place."""
    with pytest.raises(ConfigError, match=r"callbacks\.a\.rules\.x.*above"):
        small(tmp_path, callbacks={"a": {"type": "alerts", "rules": {"x": {"metric": "y", "abve": 1.0}}}})
    with pytest.raises(ConfigError, match="needs 'above', 'below', 'rise' or 'drop'"):
        small(tmp_path, callbacks={"a": {"type": "alerts", "rules": {"x": {"metric": "y"}}}})
