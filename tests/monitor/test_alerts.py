"""Alerts: who gets them, and which repeats are suppressed."""

from __future__ import annotations

from typing import Any

from dovetail.data import Splits
from dovetail.main import run
from dovetail.monitor.alerts import Alert, AlertManager
from small_runs import blobs, only_run, small


def at(step: int, severity: Any = "warning") -> Alert:
    """Return an alert of one type at a step."""
    return Alert("drift", f"at {step}", severity, step=step)


def test_a_repeated_alert_is_suppressed_and_counted():
    """After the cooldown, the next alert gives the number of suppressed ones."""
    heard: list[Alert] = []
    manager = AlertManager(heard.append)
    passed_on = [manager.tell(at(step), cooldown=10) for step in (0, 3, 9, 10, 11, 25)]

    assert passed_on == [True, False, False, True, False, True]
    assert [(alert.step, alert.details.get("repeats")) for alert in heard] == [(0, None), (10, 2), (25, 1)]
    assert [alert["message"] for alert in manager.get_alerts()] == ["at 0", "at 10", "at 25"]


def test_a_more_severe_alert_is_passed_on_at_once():
    """A critical alert ignores the cooldown of a warning; a warning after it is suppressed."""
    manager = AlertManager()
    passed_on = [
        manager.tell(at(step, how), cooldown=100) for step, how in enumerate(["warning", "critical", "warning"])
    ]

    assert passed_on == [True, True, False]


def test_each_subject_has_its_own_cooldown():
    """So does each type; without a cooldown every alert is passed on."""
    manager = AlertManager()

    assert manager.tell(at(0), about="a", cooldown=9)
    assert manager.tell(at(1), about="b", cooldown=9)
    assert not manager.tell(at(2), about="a", cooldown=9)
    assert all(manager.tell(Alert("copy", "x")) for _ in range(3))
    assert manager.has_alerts()
    assert not AlertManager().has_alerts()


def test_early_stopping_without_validation_raises_an_alert(tmp_path):
    """A part that can never do its job is not silent."""
    splits = Splits(blobs(40), None, None)
    for monitor in ("val_loss", "train_loss"):
        callbacks = {"patience": {"type": "early_stopping", "monitor": monitor}}
        run(small(tmp_path / monitor, data=splits, callbacks=callbacks)).check()

    alerts = (only_run(tmp_path / "val_loss") / "alerts.jsonl").read_text()
    assert "there is no validation split, so val_loss is never measured" in alerts
    assert not (only_run(tmp_path / "train_loss") / "alerts.jsonl").exists()
