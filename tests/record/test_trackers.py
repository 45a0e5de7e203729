"""Trackers in runs: what the built-in ones write, their cadence, and what happens if one fails."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from dovetail import ExperimentDB
from dovetail.main import run
from dovetail.testkit.registry import CheckFailed
from dovetail.testkit.run_files import tiny_run
from dovetail.testkit.subject import Subject
from small_runs import only_run, small


class Alerts:
    """Keeps alerts."""

    def __init__(self):
        self.seen = []

    def dovetail_alert(self, alert):
        """Keep the alert."""
        self.seen.append(alert)


def lines(path):
    """Return the lines of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- the built-in ones -----------------------------------------------------------------------------------------------


def test_the_database_has_all_runs_of_an_output_folder(tmp_path):
    """Each run is there with its config, its status, and every value of metrics.jsonl at its step."""
    for rate in (1e-2, 1e-4):
        settings = {"optimizer": {"type": "adamw", "lr": rate}, "training": {"validate_every": {"steps": 3}}}
        run(small(tmp_path, **settings, trackers={"db": {"type": "sqlite"}})).check()

    with ExperimentDB(tmp_path / "experiments.db") as db:
        first, second = db.list_runs()
        assert (first["status"], first["run_name"]) == ("completed", "run")
        assert [row["config"]["optimizer"]["lr"] for row in (first, second)] == [1e-2, 1e-4]
        for row in (first, second):
            written = [
                (name, value, line["epoch"], line["step"])
                for line in lines(tmp_path / "run" / row["folder"].rpartition("/")[2] / "metrics.jsonl")
                for name, value in line["metrics"].items()
                if isinstance(value, int | float) and not (line["event"] == "epoch" and name.startswith("val_"))
            ]
            kept = [
                (found["name"], found["value"], found["epoch"], found["step"])
                for found in db.get_metrics(row["run_id"])
            ]
            assert kept == written
        assert db.get_best_run("val_loss")["run_id"] == first["run_id"]


def test_jsonl_writes_the_same_events_as_metrics_jsonl(tmp_path):
    """Without a cadence, the file has the same events and values; a missing folder is created."""
    run(small(tmp_path, trackers={"copy": {"type": "jsonl", "path": "more/copy.jsonl"}})).check()
    folder = only_run(tmp_path)
    copy, own = lines(folder / "more" / "copy.jsonl"), lines(folder / "metrics.jsonl")

    assert copy
    assert [(line["event"], line["epoch"], line["step"]) for line in copy] == [
        (line["event"], line["epoch"], line["step"]) for line in own
    ]
    assert [line["metrics"]["val_loss"] for line in copy if line["event"] == "epoch"] == [
        line["metrics"]["val_loss"] for line in own if line["event"] == "epoch"
    ]


def test_a_secret_is_recorded_by_the_name_of_its_variable(tmp_path, monkeypatch):
    """The database has the name of the environment variable, never its value."""
    monkeypatch.setenv("WHERE", "very-secret.jsonl")
    trackers = {"db": {"type": "sqlite"}, "lines": {"type": "jsonl", "path": {"env": "WHERE"}}}
    run(small(tmp_path, trackers=trackers)).check()

    with ExperimentDB(tmp_path / "experiments.db") as db:
        assert db.list_runs()[0]["config"]["trackers"]["lines"]["path"] == {"env": "WHERE"}
    assert b"very-secret" not in (tmp_path / "experiments.db").read_bytes()
    assert (only_run(tmp_path) / "very-secret.jsonl").exists()


# --- failing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["damaged", "newer", "locked"])
def test_an_unusable_database_is_not_changed(tmp_path, trouble):
    """The run completes without the database and reports why."""
    path = tmp_path / "experiments.db"
    expected = {"damaged": "damaged", "newer": "newer", "locked": "has locked it for 0.05 s"}
    with ExperimentDB(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        match trouble:
            case "damaged":
                path.write_bytes(b"no database at all" * 100)
            case "newer":
                other.execute("PRAGMA user_version = 99")
            case "locked":
                other.execute("BEGIN IMMEDIATE")
        before, alerts = path.read_bytes(), Alerts()
        table = {"type": "sqlite", "timeout": 0.05}
        run(small(tmp_path, trackers={"db": table}), listeners=[alerts]).check()

        assert [expected[trouble] in alert.message for alert in alerts.seen] == [True]
        assert path.read_bytes() == before


def test_the_kit_finds_a_tracker_that_fails(tmp_path, monkeypatch):
    """A failing tracker, which a run only reports, fails the conformance kit."""
    monkeypatch.chdir(tmp_path)
    subject = Subject.find("sqlite", kind="tracker", example={"path": "/dev/null/experiments.db"})

    with pytest.raises(CheckFailed, match="it failed in a tiny run"):
        tiny_run(subject)
