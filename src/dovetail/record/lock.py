"""One process to a run: a lock on its folder that is gone when its holder is, however that ended."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import platform
import time
import weakref
from pathlib import Path
from typing import Any, Final, final

_LOCK: Final = ".lock"
_LONGEST: Final = 4096
#: Seconds that a lock is waited for whose holder has ended, and between one look and the next.
_PATIENCE: Final = 10.0
_PAUSE: Final = 0.01
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
#: Where a process's state and its start time stand in ``/proc/PID/stat``, counted from behind its name.
_STATE: Final = 0
_STARTED: Final = 19
#: States of a process that has ended, and that nobody has asked about yet.
_ENDED: Final = ("Z", "X")


class LockedError(OSError):
    """Another process holds the folder; the message says which."""


@final
class FolderLock:
    """Holds a folder for this process.

    The operating system keeps the lock and drops it when the process ends, so that a killed one leaves none behind. Its
    children, such as loader workers, do not hold it. The file ``.lock`` says who does, for people; on a file system
    without locks that is what counts: a holder that is no longer running, or ran before the machine was started, holds
    nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            LockedError: another process has it.
            OSError: nothing can be written in the folder.
        """
        self._descriptor: int | None = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        until = time.monotonic() + _PATIENCE
        while (holder := _held_by(self._descriptor)) is not None:
            # Killed in the midst of a fork, or just letting go: its child, or itself, is closing the file.
            if (holder and not _gone(holder)) or time.monotonic() >= until:
                self._forget()
                raise LockedError(f"another process{_described(holder)} is using this run")
            time.sleep(_PAUSE)
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(_this_process()).encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Let go of the folder."""
        if self._descriptor is not None:
            os.truncate(self._descriptor, 0)
            self._forget()

    def _forget(self) -> None:
        """Close the file, which in the process that took the lock also gives it up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _let_go_in_child() -> None:
    # A lock belongs to the open file, which a fork shares: orphaned workers would hold the run of a killed process.
    for lock in list(_held):
        lock._forget()  # noqa: SLF001 (the module's own class)


os.register_at_fork(after_in_child=_let_go_in_child)


def _held_by(descriptor: int) -> dict[str, Any] | None:
    """Take the lock and return None, or return what is known of the process that has it."""
    holder = _read(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder
    except OSError:  # a file system that has no locks
        return holder if holder and not _gone(holder) else None
    return None


def _this_process() -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    pid = os.getpid()
    return {"pid": pid, "started": _start_time(pid), "boot": _boot(), "host": platform.node(), "since": now}


def _boot() -> str:
    """Return what names the time since this machine was started; empty where the system does not say."""
    try:
        return _BOOT.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine was started; None for one that has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if stat[_STATE] in _ENDED else int(stat[_STARTED])
    except (OSError, ValueError, IndexError):
        return None


def _read(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, _LONGEST, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _gone(holder: dict[str, Any]) -> bool:
    """Say whether the process that wrote this can be known to have ended: one on another machine cannot."""
    if holder.get("host") != platform.node():
        return False
    pid = holder.get("pid")
    return holder.get("boot") != _boot() or not isinstance(pid, int) or _start_time(pid) != holder.get("started")


def _described(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "since"} <= holder.keys():
        return ""
    return f" (pid {holder['pid']} on {holder['host']}, since {holder['since']})"
