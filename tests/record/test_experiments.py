"""The experiment database: what it stores and finds."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dovetail import ExperimentDB
from dovetail.record.database import DatabaseError


@pytest.fixture
def db(tmp_path):
    """Return a new database."""
    with ExperimentDB(tmp_path / "runs" / "experiments.db", timeout=0.2) as opened:
        yield opened


def test_runs_and_metrics_survive_reopening(tmp_path):
    """The next process finds everything: config, notes, epochs, steps and status."""
    with ExperimentDB(tmp_path / "experiments.db") as first:
        run = first.log_run(run_name="baseline-v1", config={"lr": 1e-3, "sizes": [1, 2]}, notes="Initial baseline")
        first.log_metric(run, "val/loss", 0.38, epoch=5)
        first.log_metrics(run, {"train_loss": 0.4, "lr": 1e-3}, epoch=6, step=120)
        first.finish_run(run, "stopped_early", "patience")

    with ExperimentDB(tmp_path / "experiments.db") as second:
        found = second.get_run(run)
        assert found["config"] == {"lr": 1e-3, "sizes": [1, 2]}
        assert (found["run_name"], found["notes"], found["status"]) == (
            "baseline-v1",
            "Initial baseline",
            "stopped_early",
        )
        assert found["started"] <= found["finished"]
        assert second.list_runs() == [found]
        assert second.get_metrics(run, "val/loss") == [{"name": "val/loss", "value": 0.38, "epoch": 5, "step": None}]
        assert [row["name"] for row in second.get_metrics(run)] == ["val/loss", "train_loss", "lr"]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]), st.floats()), max_size=12),
    st.sampled_from(["min", "max"]),
)
@example([(0, "a", -0.0)], "min")
def test_the_best_run_has_the_best_finite_value(tmp_path_factory, figures, mode):
    """For any values, including NaN and infinity, all are returned, and the best is the best finite one."""
    with ExperimentDB(tmp_path_factory.mktemp("db") / "e.db") as opened:
        runs = [opened.log_run(f"run {number}") for number in range(4)]
        for number, name, value in figures:
            opened.log_metric(runs[number], name, value)
        finite = [(value, number) for number, name, value in figures if name == "a" and math.isfinite(value)]
        if figures and all(name == "b" for _, name, _ in figures):
            with pytest.raises(ValueError, match="no run has a metric 'a'"):
                opened.get_best_run("a", mode)
            return
        best = opened.get_best_run("a", mode)

        for number, run in enumerate(runs):
            expected = [value + 0.0 for owner, _, value in figures if owner == number]  # SQLite has no -0.0
            assert str(expected) == str([row["value"] for row in opened.get_metrics(run)])
        if not finite:
            assert best is None
        else:
            wanted = (min if mode == "min" else max)(value for value, _ in finite)
            assert best["best_value"] == wanted
            assert best["run_name"] == f"run {min(number for value, number in finite if value == wanted)}"


def test_an_unknown_mode_is_refused(db):
    """A misspelt mode is an error, not a minimum."""
    with pytest.raises(ValueError, match="'min' or 'max', got 'most'"):
        db.get_best_run("loss", "most")


def test_the_best_run_by_a_name_alone(db):
    """The name of a metric says which direction is better; an unknown one must be told, a misspelt one is refused."""
    for accuracy in (0.5, 0.9, 0.7):
        db.log_metric(db.log_run("run"), "val/accuracy", accuracy)
    db.log_metric(1, "oddness", 1.0)

    assert db.get_best_run("val/accuracy")["best_value"] == 0.9
    with pytest.raises(ValueError, match="whether a lower or a higher oddness is better"):
        db.get_best_run("oddness")
    with pytest.raises(ValueError, match="no run has a metric 'val/acuracy'; did you mean 'val/accuracy'"):
        db.get_best_run("val/acuracy")


def test_an_unknown_run_is_refused(db):
    """Logging to, finishing and reading an unknown run are errors that name it."""
    for call in (
        lambda: db.log_metric(7, "loss", 1.0),
        lambda: db.finish_run(7),
        lambda: db.get_run(7),
        lambda: db.get_metrics(7),
    ):
        with pytest.raises(DatabaseError, match="there is no run 7"):
            call()


def test_metrics_are_logged_together_or_not_at_all(db):
    """If one value is not a number, none of the group is logged."""
    run = db.log_run("one")
    with pytest.raises(ValueError, match="could not convert"):
        db.log_metrics(run, {"a": 1.0, "b": "much"})

    assert db.get_metrics(run) == []


def test_a_resumed_run_keeps_its_id_and_its_metrics(db, tmp_path):
    """A run in the same folder is the same run; `rewind` keeps the values it had at its checkpoint."""
    run = db.log_run("one", folder=tmp_path)
    for step in (10, 20, 30):
        db.log_metrics(run, {"loss": 1 / step}, step=step)
    db.finish_run(run, "interrupted", "SIGTERM")
    again = db.log_run("one", folder=tmp_path)
    db.rewind(again, 2)

    assert again == run
    assert [row["step"] for row in db.get_metrics(run)] == [10, 20]
    assert db.get_run(run)["status"] == "running"
    assert db.log_run("one", folder=tmp_path / "other") != run
