"""Copies of a run's checkpoints: complete, made in the background, and resumed."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from dovetail.checkpoint import copier as copier_module
from dovetail.main import resume, run
from small_runs import only_run, small
from unsteady_storage import Unsteady


@pytest.fixture
def storage(tmp_path):
    """Return a storage that is not open yet."""
    return Unsteady(tmp_path / "storage")


class Alerts:
    """Records alerts and counts updates."""

    def __init__(self) -> None:
        self.seen, self.steps = [], 0

    def dovetail_alert(self, alert):
        """Record an alert."""
        self.seen.append(alert)

    def dovetail_batch_end(self):
        """Count an update."""
        self.steps += 1


def test_a_run_completes_while_its_storage_hangs(tmp_path, storage):
    """It makes every update, and raises an alert for each missing copy."""
    alerts = Alerts()
    config = small(
        tmp_path / "runs",
        checkpoint={"copy_to": storage, "copy_patience": 0.05},
        callbacks={"alerts": alerts},
    )

    outcome = run(config).check()  # would hang if it waited for the storage

    assert outcome.status == "completed"
    assert alerts.steps == 14
    assert [(alert.type, alert.severity) for alert in alerts.seen] == [("checkpoint_copy", "warning")] * 2
    assert "step-00000014 was not copied: not done 0.05 s after the end" in alerts.seen[-1].message
    storage.opened.set()


def test_a_failed_copy_is_an_alert_with_the_reason(tmp_path, storage):
    """The run completes."""
    storage.refusals, alerts = 1000, Alerts()
    checkpoint = {"copy_to": storage, "copy_patience": 0.05}
    outcome = run(small(tmp_path / "runs", checkpoint=checkpoint, callbacks={"alerts": alerts})).check()

    assert outcome.status == "completed"
    assert {alert.type for alert in alerts.seen} == {"checkpoint_copy"}
    assert "checkpoint.copy_to: step-00000007 was not copied: " in alerts.seen[0].message
    assert "the network is down" in alerts.seen[0].message


class Late:
    """Lets almost all of the run's time pass once the first checkpoint is saved."""

    def __init__(self, clock) -> None:
        self.clock = clock

    def dovetail_checkpoint_saved(self, checkpoint):
        """Let time pass."""
        if checkpoint.step == 7:
            self.clock.advance(599)


def test_a_run_does_not_wait_for_copies_beyond_its_budget(tmp_path, storage, clock):
    """It has a minute of patience but not a second of time."""
    alerts = Alerts()
    checkpoint = {"copy_to": storage, "copy_patience": 60}
    callbacks = {"late": Late(clock), "alerts": alerts}
    run(small(tmp_path, checkpoint=checkpoint, budget={"wall_clock": "10m"}, callbacks=callbacks)).check()

    assert "step-00000007 was not copied: not done 0" in alerts.seen[0].message
    storage.opened.set()


def test_a_runs_copies_are_under_its_name_and_id(tmp_path, storage):
    """They equal the originals, even with background saving."""
    storage.opened.set()
    run(small(tmp_path / "runs", checkpoint={"copy_to": storage, "background": True})).check()

    folder = only_run(tmp_path / "runs")
    copies = tmp_path / "storage" / "run" / folder.name
    saved = sorted((folder / "checkpoints").glob("step-*"))
    assert [path.name for path in saved] == sorted(path.name for path in copies.iterdir())
    for path in saved:
        copy = copies / path.name
        copied, original = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in (copy, path))
        assert copied == original


class Interrupts:
    """Sends the process a signal after the run has ended."""

    def dovetail_run_end(self):
        """Send it after 0.3 s."""
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()


def test_a_signal_shortens_the_wait_for_copies(tmp_path, storage, monkeypatch):
    """The run still counts as completed, and reports the missing copies."""
    monkeypatch.setattr(copier_module, "HURRIED_PATIENCE", 0.5)

    outcome = run(small(tmp_path / "runs", checkpoint={"copy_to": storage}, callbacks={"signal": Interrupts()}))

    assert outcome.status == "completed"
    folder = only_run(tmp_path / "runs")
    assert json.loads((folder / "run.json").read_text())["status"] == "completed"
    assert "not done 0.5 s after the end" in (folder / "alerts.jsonl").read_text()
    storage.opened.set()


def test_a_resumed_run_copies_missing_checkpoints(tmp_path, storage):
    """Existing copies are not copied again."""
    checkpoint = {"copy_to": storage, "copy_patience": 0.05}
    sections = {"checkpoint": checkpoint, "callbacks": {"alerts": Alerts()}}
    run(small(tmp_path / "runs", **sections)).check()
    folder = only_run(tmp_path / "runs")
    storage.opened.set()

    checkpoint["copy_patience"] = 30
    resume(folder, small(tmp_path / "runs", training={"max_epochs": 3}, **sections)).check()
    tries = storage.tries
    resume(folder, small(tmp_path / "runs", training={"max_epochs": 4}, **sections)).check()

    saved = {path.name for path in (folder / "checkpoints").glob("step-*")}
    assert {path.name for path in (tmp_path / "storage" / "run" / folder.name).iterdir()} == saved
    assert len(saved) == 4
    assert storage.tries - tries == 4  # the files of one new checkpoint
