"""The experiment database: what it keeps, what it refuses, and many processes at one file."""

from __future__ import annotations

import math
import random
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail import ExperimentDB
from dovetail.record import experiments
from dovetail.record.database import DatabaseError


@pytest.fixture
def db(tmp_path):
    """Return a new database."""
    with ExperimentDB(tmp_path / "runs" / "experiments.db", timeout=0.2) as opened:
        yield opened


def test_runs_and_metrics_come_back_after_reopening(tmp_path):
    """What was logged is there for the next process, with its config, notes, epochs, steps and end."""
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
        assert [one["name"] for one in second.get_metrics(run)] == ["val/loss", "train_loss", "lr"]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]), st.floats()), max_size=12),
    st.sampled_from(["min", "max"]),
)
def test_the_best_run_has_the_best_finite_value(tmp_path_factory, figures, mode):
    """For any figures, NaN and infinity among them, every value comes back and the best is that of the finite ones."""
    with ExperimentDB(tmp_path_factory.mktemp("db") / "e.db") as opened:
        runs = [opened.log_run(f"run {number}") for number in range(4)]
        for number, name, value in figures:
            opened.log_metric(runs[number], name, value)
        finite = [(value, number) for number, name, value in figures if name == "a" and math.isfinite(value)]
        best = opened.get_best_run("a", mode)

        for number, run in enumerate(runs):
            expected = [value for one, _, value in figures if one == number]
            assert str(expected) == str([one["value"] for one in opened.get_metrics(run)])
        if not finite:
            assert best is None
        else:
            wanted = (min if mode == "min" else max)(value for value, _ in finite)
            assert best["best_value"] == wanted
            assert best["run_name"] == f"run {min(number for value, number in finite if value == wanted)}"


def test_a_mode_that_is_none_is_refused(db):
    """A misspelt mode is no silent minimum."""
    with pytest.raises(ValueError, match="'min' or 'max', got 'most'"):
        db.get_best_run("loss", "most")


def test_a_run_that_is_not_there_is_named(db):
    """Figures, an end or a look-up of an unknown run are refused."""
    for call in (
        lambda: db.log_metric(7, "loss", 1.0),
        lambda: db.finish_run(7),
        lambda: db.get_run(7),
        lambda: db.get_metrics(7),
    ):
        with pytest.raises(DatabaseError, match="there is no run 7"):
            call()


def test_figures_come_together_or_not_at_all(db):
    """A value that is no number leaves nothing of its group behind."""
    run = db.log_run("one")
    with pytest.raises(ValueError, match="could not convert"):
        db.log_metrics(run, {"a": 1.0, "b": "much"})

    assert db.get_metrics(run) == []


def test_a_resumed_run_goes_on_where_it_was(db, tmp_path):
    """The same folder is the same run; of its figures so many are kept as it had when it was saved."""
    run = db.log_run("one", folder=tmp_path)
    for step in (10, 20, 30):
        db.log_metrics(run, {"loss": 1 / step}, step=step)
    db.finish_run(run, "interrupted", "SIGTERM")
    again = db.log_run("one", folder=tmp_path)
    db.rewind(again, 2)

    assert again == run
    assert [one["step"] for one in db.get_metrics(run)] == [10, 20]
    assert db.get_run(run)["status"] == "running"
    assert db.log_run("one", folder=tmp_path / "other") != run


# --- what is refused, and left as it is ------------------------------------------------------------------------------


def filled(path, *, runs=200):
    """Write a database of several pages and return its bytes."""
    with ExperimentDB(path) as opened:
        for number in range(runs):
            run = opened.log_run(f"run {number}", {"note": "x" * 200})
            opened.log_metric(run, "loss", number)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path, seed):
    """Overwritten pages, a broken header or a lost end: the message names the file, and not a byte of it changes."""
    path, draw = tmp_path / "experiments.db", random.Random(seed)  # noqa: S311 (a test's choice)
    content = bytearray(filled(path, runs=60))
    match seed % 3:
        case 0:
            content[:16] = draw.randbytes(16)
        case 1:
            del content[len(content) // 2 :]
        case _:
            content[4096 : 3 * 4096] = draw.randbytes(2 * 4096)
    path.write_bytes(content)

    with pytest.raises(DatabaseError, match=r"experiments\.db is damaged or no database .*left as it is"):
        ExperimentDB(path)
    assert path.read_bytes() == content


def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path):
    """A schema that this Dovetail does not know is not touched."""
    path = tmp_path / "experiments.db"
    filled(path, runs=1)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(DatabaseError, match=r"newer Dovetail \(schema 99, this one knows 1\)"):
        ExperimentDB(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 1, 99])
def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path, version):
    """Whatever version it gives itself."""
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE places (url TEXT)")
        raw.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()

    with pytest.raises(DatabaseError, match="another program's database"):
        ExperimentDB(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_file_is_refused(tmp_path):
    """A file that is no database is not made one."""
    path = tmp_path / "experiments.db"
    path.write_text("name,loss\n" * 100)

    with pytest.raises(DatabaseError, match="damaged or no database"):
        ExperimentDB(path)
    assert path.read_text() == "name,loss\n" * 100


def test_a_place_that_cannot_be_is_named(tmp_path):
    """A folder in the file's place, and a file in the folder's."""
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError, match=r"unable to open"):
        ExperimentDB(tmp_path)
    with pytest.raises(DatabaseError, match=r"cannot make its folder"):
        ExperimentDB(tmp_path / "file" / "experiments.db")


def test_an_empty_file_is_a_new_database(tmp_path):
    """That is what a process leaves which is killed before its first write."""
    (tmp_path / "experiments.db").touch()
    with ExperimentDB(tmp_path / "experiments.db") as opened:
        assert opened.list_runs() == []


def test_older_files_are_brought_up_to_date(tmp_path, monkeypatch):
    """A file of an older schema gets what is new and keeps what it has."""
    with ExperimentDB(tmp_path / "e.db") as old:
        run = old.log_run("old")
    monkeypatch.setattr(
        experiments,
        "_MIGRATIONS",
        (*experiments._MIGRATIONS, "ALTER TABLE runs ADD COLUMN host TEXT NOT NULL DEFAULT ''"),
    )
    with ExperimentDB(tmp_path / "e.db") as new:
        assert new.get_run(run)["run_name"] == "old"
        assert new.get_run(run)["host"] == ""
        assert new._database._pragma("user_version") == 2


# --- many processes --------------------------------------------------------------------------------------------------


def test_a_locked_file_is_waited_for_and_then_named(db):
    """While another process writes, reading goes on; writing waits so long and no longer, and works afterwards."""
    run = db.log_run("one")
    with closing(sqlite3.connect(db.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert db.get_run(run)["run_name"] == "one"
        with pytest.raises(DatabaseError, match=r"another process has held it for 0\.2 s"):
            db.log_metric(run, "loss", 1.0)
        other.execute("ROLLBACK")
    db.log_metric(run, "loss", 1.0)

    assert len(db.get_metrics(run)) == 1


WRITER = """
import sys
from dovetail.record.experiments import ExperimentDB
with ExperimentDB(sys.argv[1]) as db:
    run = db.log_run(sys.argv[2])
    for step in range(50):
        db.log_metrics(run, {"a": step, "b": -step}, step=step)
"""


def test_processes_that_begin_at_once_lose_nothing(tmp_path):
    """Several processes make the file at the same moment and write to it together: every figure is there."""
    path = tmp_path / "experiments.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"run {one}"]) for one in range(4)]
    assert [one.wait(120) for one in writers] == [0] * 4

    with ExperimentDB(path) as opened:
        assert sorted(one["run_name"] for one in opened.list_runs()) == [f"run {one}" for one in range(4)]
        for one in opened.list_runs():
            assert [found["step"] for found in opened.get_metrics(one["run_id"], "b")] == list(range(50))


def test_a_file_being_made_is_never_taken_for_another_programs(tmp_path):
    """However the steps of those who make it at once interleave, in many tries."""
    together = threading.Barrier(4)

    def open_all():
        refused = []
        for number in range(100):
            together.wait(60)
            try:
                with ExperimentDB(tmp_path / f"{number}.db") as opened:
                    opened.log_run("one")
            except DatabaseError as error:
                refused.append(str(error))
        return refused

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(open_all) for _ in range(4)]
        assert [one.result() for one in waiting] == [[], [], [], []]

    for number in range(100):
        with ExperimentDB(tmp_path / f"{number}.db") as opened:
            assert len(opened.list_runs()) == 4


KILLED = """
import itertools, sys
from dovetail.record.experiments import ExperimentDB
db = ExperimentDB(sys.argv[1])
run = db.log_run("killed")
for step in itertools.count():
    db.log_metrics(run, {"a": step, "b": -step}, step=step)
    print(step, flush=True)
"""


def test_a_killed_writer_leaves_whole_figures(tmp_path):
    """What was logged before a SIGKILL is there, in whole groups, and the file can be used at once."""
    path = tmp_path / "experiments.db"
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    seen = -1
    for line in writer.stdout:
        seen = int(line)
        if seen >= 30:
            writer.kill()
            break
    writer.stdout.close()
    writer.wait(60)

    with ExperimentDB(path) as opened:
        (run,) = opened.list_runs()
        steps = [[one["step"] for one in opened.get_metrics(run["run_id"], name)] for name in ("a", "b")]
        assert steps[0] == steps[1] == list(range(len(steps[0])))
        assert len(steps[0]) > seen
        opened.finish_run(run["run_id"], "failed")
