"""Trackers in runs: what the built-in ones write, their cadence, and what happens if one fails."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from dovetail import ExperimentDB
from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from dovetail.testkit.registry import CheckFailed
from dovetail.testkit.run_files import tiny_run
from dovetail.testkit.subject import Subject
from small_runs import only_run, small


class Notes:
    """Keeps the events, validations and epochs it is called with."""

    def __init__(self):
        self.logged, self.validated, self.ended = [], [], []

    def dovetail_log(self, run, event):
        """Keep the event with its epoch and step."""
        self.logged.append((event, run.state.epoch, run.state.step))

    def dovetail_validation_end(self, run):
        """Keep the step."""
        self.validated.append(run.state.step)

    def dovetail_epoch_end(self, epoch):
        """Keep the epoch."""
        self.ended.append(epoch)


class Failing(Notes):
    """Fails at one hook, and keeps which hooks are called."""

    def __init__(self, hook):
        super().__init__()
        self.calls = []
        for name in ("dovetail_run_start", "dovetail_log", "dovetail_run_end"):
            setattr(self, name, self._hook(name, hook))

    def _hook(self, name, failing):
        def call():
            self.calls.append(name)
            if name == failing:
                raise ConnectionError("no route to the host")

        return call


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


# --- cadence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "every, logged",
    [
        (
            None,
            [
                *[("train", 2), ("train", 4), ("train", 6), ("validation", 7), ("epoch", 7)],
                *[("train", 8), ("train", 10), ("train", 12), ("train", 14), ("validation", 14), ("epoch", 14)],
            ],
        ),
        (
            {"steps": 4},
            [
                *[("train", 4), ("validation", 7), ("epoch", 7)],
                *[("train", 8), ("train", 12), ("validation", 14), ("epoch", 14)],
            ],
        ),
        (2, [("validation", 14), ("epoch", 14)]),
        ({"epochs": 3}, []),
    ],
    ids=str,
)
def test_each_tracker_is_called_at_its_own_cadence(tmp_path, every, logged):
    """100 samples in batches of 16 are 7 updates an epoch; the metrics of the test are always logged."""
    notes, other = Notes(), Notes()
    trackers = {"notes": {"type": notes, **({} if every is None else {"every": every})}, "other": other}
    run(small(tmp_path, trackers=trackers, logging={"every": 2})).check()

    assert [(event, step) for event, _, step in notes.logged] == [*logged, ("test", 14)]
    assert notes.validated == [step for event, step in logged if event == "validation"]
    assert notes.ended == [step // 7 for event, step in logged if event == "epoch"]
    assert len(other.logged) == 12


@pytest.mark.parametrize(
    "every, message",
    [
        ({"steps": 3}, r"trackers\.notes\.every: training figures are computed every 2 updates .* not every 3"),
        ({"minutes": 1.0}, r"trackers\.notes\.every: a tracker counts epochs or steps, not minutes"),
    ],
    ids=str,
)
def test_an_impossible_cadence_is_refused(tmp_path, every, message):
    """The error comes before the first update, with the place of the setting."""
    config = small(tmp_path, trackers={"notes": {"type": Notes(), "every": every}}, logging={"every": 2})
    with pytest.raises(ConfigError, match=message):
        run(config)


# --- failing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["dovetail_run_start", "dovetail_log", "dovetail_run_end"])
def test_a_failing_tracker_is_reported_once_and_the_run_completes(tmp_path, hook):
    """The run has the same metrics, reports the failure once, and then calls the tracker only at its end."""
    plain = run(small(tmp_path / "plain")).check()
    failing, alerts, notes = Failing(hook), Alerts(), Notes()
    outcome = run(small(tmp_path / "failing", trackers={"board": failing, "notes": notes}), listeners=[alerts]).check()

    assert outcome.status == "completed"
    assert outcome.metrics["val_loss"] == plain.metrics["val_loss"]
    assert [alert.type for alert in alerts.seen] == ["tracker_failed"]
    assert "trackers.board failed and records nothing more of this run" in alerts.seen[0].message
    assert "no route to the host" in alerts.seen[0].message
    assert failing.calls.count(hook) == 1
    assert failing.calls[-1] == "dovetail_run_end"
    assert len(notes.logged) > 2
    assert "ConnectionError: no route to the host" in (only_run(tmp_path / "failing") / "log.txt").read_text()


def test_a_tracker_does_not_hold_back_an_interruption(tmp_path):
    """Ctrl-C inside a tracker ends the run; it is no failure of the tracker."""

    class Interrupting:
        def dovetail_log(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small(tmp_path, trackers={"board": Interrupting()}))


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
