"""The lock of a run's folder: real processes, their deaths, and file systems that have no locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dovetail.record import lock
from dovetail.record.lock import FolderLock, LockedError
from dovetail.record.run_directory import RunDirectory, RunDirectoryError

HOLD = """\
import os, sys, time
from pathlib import Path
from dovetail.record.lock import FolderLock

lock = FolderLock(Path(sys.argv[1]))
child = os.fork() if sys.argv[2:] == ["with a child"] else None
if not child:  # the child itself says that it runs: what it inherited it has let go of by then
    print(None if child is None else os.getpid(), flush=True)
time.sleep(600)
"""


def holder(folder: Path, *arguments: str) -> tuple[subprocess.Popen, str]:
    """Start a process that holds the folder, and return it with what it said: its child's id, or None."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *arguments], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_a_second_process_is_told_who_holds_the_folder(tmp_path):
    """One clear message with the process, the machine and since when."""
    process, _ = holder(tmp_path)
    try:
        expected = rf"another process \(pid {process.pid} on {platform.node()}, since \d{{4}}-.*Z\) is using this run"
        with pytest.raises(RunDirectoryError, match=expected):
            RunDirectory(tmp_path)
    finally:
        process.kill()
        process.communicate()


def test_a_killed_process_leaves_no_lock_even_if_its_children_live(tmp_path):
    """Loader workers outlive a killed run by some seconds; they do not hold its folder."""
    process, said = holder(tmp_path, "with a child")
    child = int(said)
    process.kill()
    process.wait()
    try:
        os.kill(child, 0)
        FolderLock(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


DIE = """\
import ctypes, os, signal, sys, time
from pathlib import Path
from dovetail.record.lock import FolderLock

lock = FolderLock(Path(sys.argv[1]))
if ctypes.CDLL(None).fork():  # not Python's, whose hooks run in the child: as far as a child gets that is dying
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
os._exit(0)
"""


def orphan(folder: Path) -> subprocess.Popen:
    """Start a process that takes the folder's lock and is killed in the midst of a fork; its child waits for input."""
    process = subprocess.Popen([sys.executable, "-c", DIE, folder], stdin=subprocess.PIPE)
    assert process.wait() == -signal.SIGKILL
    assert json.loads((folder / ".lock").read_text(encoding="utf-8"))["pid"] == process.pid
    return process


def test_a_child_that_has_not_let_go_yet_is_waited_for(tmp_path, monkeypatch):
    """A kill in the midst of a fork leaves a child that holds the lock for a moment, though the holder is gone."""
    process, waits = orphan(tmp_path), []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        process.stdin.close()
        time.sleep(seconds)

    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=wait, monotonic=time.monotonic))
    monkeypatch.setattr(lock, "_PATIENCE", 600.0)
    FolderLock(tmp_path).release()

    assert waits


def test_a_child_that_stays_is_not_waited_for_long(tmp_path, monkeypatch):
    """Then the folder is refused after all, with what is known of its holder."""
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    with orphan(tmp_path) as process, pytest.raises(LockedError, match=f"pid {process.pid} "):
        FolderLock(tmp_path)


def test_a_folder_is_free_again_when_it_is_released(tmp_path):
    """Twice in one process is refused as well; afterwards nothing is in the way."""
    first = FolderLock(tmp_path)
    with pytest.raises(LockedError):
        FolderLock(tmp_path)
    first.release()
    first.release()
    FolderLock(tmp_path).release()


# --- without locks of the file system ---------------------------------------------------------------------------------


@pytest.fixture
def lockless(monkeypatch):
    """Be on a file system that answers as some network file systems do."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_what_the_file_says_counts_where_nothing_can_be_locked(tmp_path, lockless):
    """A holder that lives is respected, one that has ended is not."""
    process, _ = holder(tmp_path)
    # It has a real lock of its own, which the file system of this test does not know of.
    with pytest.raises(LockedError, match=f"pid {process.pid}"):
        FolderLock(tmp_path)
    process.kill()
    process.communicate()
    FolderLock(tmp_path).release()


def test_a_process_that_nobody_has_asked_about_yet_has_ended(tmp_path, lockless):
    """A killed one whose parent never looks, as in many containers, holds nothing."""
    process, _ = holder(tmp_path)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    FolderLock(tmp_path).release()
    process.communicate()


@pytest.mark.parametrize(
    "changed,free",
    [
        ({}, False),
        ({"started": 1}, True),  # the number is another process's by now
        ({"boot": "before"}, True),
        ({"host": "elsewhere", "pid": 1}, False),  # nobody here can know
        ({"pid": "x"}, True),
    ],
)
def test_a_stale_note_is_told_from_one_that_holds(tmp_path, lockless, changed, free):
    """By machine, the time since it was started, process and when that began."""
    (tmp_path / ".lock").write_text(json.dumps({**lock._this_process(), **changed}), encoding="utf-8")
    if free:
        FolderLock(tmp_path).release()
    else:
        with pytest.raises(LockedError):
            FolderLock(tmp_path)


@pytest.mark.parametrize("content", [b"", b"pid 3", b"[]", b"\xff\x00", b"[" * 4000])
def test_what_is_no_note_holds_nothing(tmp_path, lockless, content):
    """Cut short, or another program's."""
    (tmp_path / ".lock").write_bytes(content)
    FolderLock(tmp_path).release()
