"""The SQLite file: what is refused, migrations, and many processes writing to one file."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from dovetail import ExperimentDB
from dovetail.record import experiments
from dovetail.record.database import DatabaseError


def filled(path, *, runs=200):
    """Write a database of several pages and return its content."""
    with ExperimentDB(path) as opened:
        for number in range(runs):
            run = opened.log_run(f"run {number}", {"note": "x" * 200})
            opened.log_metric(run, "loss", number)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_refused_and_not_changed(tmp_path, seed):
    """Overwritten pages, a broken header or a missing end are found; the file keeps every byte."""
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

    with pytest.raises(DatabaseError, match=r"experiments\.db is damaged or not a database .*not changed"):
        ExperimentDB(path)
    assert path.read_bytes() == content


def test_a_newer_file_is_refused_and_not_changed(tmp_path):
    """A file with a newer schema is refused with both versions."""
    path = tmp_path / "experiments.db"
    filled(path, runs=1)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(DatabaseError, match=r"newer Dovetail \(schema 99, this one knows 1\)"):
        ExperimentDB(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 1, 99])
def test_a_database_of_another_program_is_refused_and_not_changed(tmp_path, version):
    """This holds for any user_version of the other program."""
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE places (url TEXT)")
        raw.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()

    with pytest.raises(DatabaseError, match="the database of another program"):
        ExperimentDB(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_file_is_refused(tmp_path):
    """A text file is refused and not changed."""
    path = tmp_path / "experiments.db"
    path.write_text("name,loss\n" * 100)

    with pytest.raises(DatabaseError, match="damaged or not a database"):
        ExperimentDB(path)
    assert path.read_text() == "name,loss\n" * 100


def test_a_path_that_cannot_be_opened_is_named(tmp_path):
    """The path may be a folder, or a folder above it may be a file."""
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError, match=r"unable to open"):
        ExperimentDB(tmp_path)
    with pytest.raises(DatabaseError, match=r"cannot create its folder"):
        ExperimentDB(tmp_path / "file" / "experiments.db")


def test_an_empty_file_is_a_new_database(tmp_path):
    """A process that is killed before its first write leaves an empty file."""
    (tmp_path / "experiments.db").touch()
    with ExperimentDB(tmp_path / "experiments.db") as opened:
        assert opened.list_runs() == []


def test_older_files_are_migrated(tmp_path, monkeypatch):
    """A file with an older schema gets the new columns and keeps its rows."""
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


@pytest.fixture
def db(tmp_path):
    """Return a new database."""
    with ExperimentDB(tmp_path / "runs" / "experiments.db", timeout=0.2) as opened:
        yield opened


def test_writing_to_a_locked_file_fails_after_the_timeout(db):
    """While another process writes, reading works and writing fails after the timeout; later, writing works."""
    run = db.log_run("one")
    with closing(sqlite3.connect(db.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert db.get_run(run)["run_name"] == "one"
        with pytest.raises(DatabaseError, match=r"another process has locked it for 0\.2 s"):
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


def test_processes_that_start_together_lose_nothing(tmp_path):
    """If several processes create the file at the same moment and write to it, every value is there."""
    path = tmp_path / "experiments.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"run {number}"]) for number in range(4)]
    assert [writer.wait(120) for writer in writers] == [0] * 4

    with ExperimentDB(path) as opened:
        assert sorted(run["run_name"] for run in opened.list_runs()) == [f"run {number}" for number in range(4)]
        for run in opened.list_runs():
            assert [row["step"] for row in opened.get_metrics(run["run_id"], "b")] == list(range(50))


def test_a_file_being_created_is_recognised(tmp_path):
    """Threads that create the same file at once never take it for another program's, in 100 tries."""
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
        assert [future.result() for future in waiting] == [[], [], [], []]

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


def test_a_killed_writer_leaves_complete_transactions(tmp_path):
    """All values logged before a SIGKILL are there, in complete groups, and the file works at once."""
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
        steps = [[row["step"] for row in opened.get_metrics(run["run_id"], name)] for name in ("a", "b")]
        assert steps[0] == steps[1] == list(range(len(steps[0])))
        assert len(steps[0]) > seen
        opened.finish_run(run["run_id"], "failed")
