"""The lock of a run's folder: real processes, killed ones, and file systems without locks."""

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
if not child:  # printed by the child, which has closed the inherited lock by then
    print(None if child is None else os.getpid(), flush=True)
time.sleep(600)
"""


def holder(folder: Path, *arguments: str) -> tuple[subprocess.Popen, str]:
    """Start a process that holds the lock, and return it with its output: its child's id, or None."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *arguments], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_a_second_process_learns_who_holds_the_lock(tmp_path):
    """The message has the process, the machine and the time."""
    process, _ = holder(tmp_path)
    try:
        expected = rf"another process \(pid {process.pid} on {platform.node()}, since \d{{4}}-.*Z\) is using this run"
        with pytest.raises(RunDirectoryError, match=expected):
            RunDirectory(tmp_path)
    finally:
        process.kill()
        process.communicate()


def test_a_killed_process_leaves_no_lock_even_if_its_children_run(tmp_path):
    """Loader workers outlive a killed run by a few seconds, and do not hold its lock."""
    process, output = holder(tmp_path, "with a child")
    child = int(output)
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
if ctypes.CDLL(None).fork():  # without Python's fork hooks, like a child that is killed before they run
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
os._exit(0)
"""


def orphan(folder: Path) -> subprocess.Popen:
    """Start a process that acquires the lock and is killed during a fork; its child waits for input."""
    process = subprocess.Popen([sys.executable, "-c", DIE, folder], stdin=subprocess.PIPE)
    assert process.wait() == -signal.SIGKILL
    assert json.loads((folder / ".lock").read_text(encoding="utf-8"))["pid"] == process.pid
    return process


def test_the_lock_of_a_killed_process_is_waited_for(tmp_path, monkeypatch):
    """A process killed during a fork leaves a child that holds the lock for a moment."""
    process, waits = orphan(tmp_path), []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        process.stdin.close()
        time.sleep(seconds)

    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=wait, monotonic=time.monotonic))
    monkeypatch.setattr(lock, "_PATIENCE", 600.0)
    FolderLock(tmp_path).release()

    assert waits


def test_waiting_for_the_lock_of_a_killed_process_ends(tmp_path, monkeypatch):
    """If the child does not exit, the lock is refused with what is known of its holder."""
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    with orphan(tmp_path) as process, pytest.raises(LockedError, match=f"pid {process.pid} "):
        FolderLock(tmp_path)


def test_a_released_lock_can_be_acquired(tmp_path):
    """A second lock in the same process is refused until the first is released."""
    first = FolderLock(tmp_path)
    with pytest.raises(LockedError):
        FolderLock(tmp_path)
    first.release()
    first.release()
    FolderLock(tmp_path).release()


# --- without locks of the file system ---------------------------------------------------------------------------------


@pytest.fixture
def lockless(monkeypatch):
    """Make `flock` fail as on some network file systems."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_the_file_names_the_holder(tmp_path, lockless):
    """A running holder keeps the folder; one that has ended does not."""
    process, _ = holder(tmp_path)
    # The holder has a real lock, which this process cannot see.
    with pytest.raises(LockedError, match=f"pid {process.pid}"):
        FolderLock(tmp_path)
    process.kill()
    process.communicate()
    FolderLock(tmp_path).release()


def test_a_zombie_holds_nothing(tmp_path, lockless):
    """A killed process whose parent does not wait for it, as in many containers, holds nothing."""
    process, _ = holder(tmp_path)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended but stays a zombie
    FolderLock(tmp_path).release()
    process.communicate()


@pytest.mark.parametrize(
    "changed,free",
    [
        ({}, False),
        ({"started": 1}, True),  # another process has this id now
        ({"boot": "before"}, True),
        ({"host": "elsewhere", "pid": 1}, False),  # cannot be known here
        ({"pid": "x"}, True),
    ],
)
def test_a_stale_lock_file_is_recognised(tmp_path, lockless, changed, free):
    """A lock file holds only for a running process of this boot, or of another machine."""
    (tmp_path / ".lock").write_text(json.dumps({**lock._this_process(), **changed}), encoding="utf-8")
    if free:
        FolderLock(tmp_path).release()
    else:
        with pytest.raises(LockedError):
            FolderLock(tmp_path)


@pytest.mark.parametrize("content", [b"", b"pid 3", b"[]", b"\xff\x00", b"[" * 4000])
def test_an_invalid_lock_file_holds_nothing(tmp_path, lockless, content):
    """It may be cut short, or written by another program."""
    (tmp_path / ".lock").write_bytes(content)
    FolderLock(tmp_path).release()
