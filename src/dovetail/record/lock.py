"""A lock that keeps a run's folder to one process, and that is released however the process ends."""

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
#: Seconds to wait for a lock whose holder has ended, and between two attempts.
_PATIENCE: Final = 10.0
_PAUSE: Final = 0.01
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
#: Fields of ``/proc/PID/stat``, counted after the process's name: its state and its start time.
_STATE: Final = 0
_STARTED: Final = 19
#: States of a process that has ended but has not been waited for yet.
_ENDED: Final = ("Z", "X")


class LockedError(OSError):
    """Another process holds the lock; the message says which."""


@final
class FolderLock:
    """Locks a folder for this process.

    The operating system releases the lock when the process ends, even if it is killed. Its children, such as loader
    workers, do not hold the lock. The file ``.lock`` names the holder. On a file system without locks, this file is the
    lock: it counts as long as the process it names is running, and was started after the machine's last boot.
    """

    def __init__(self, folder: Path) -> None:
        """Acquire the lock.

        Raises:
            LockedError: another process holds it.
            OSError: the folder cannot be written.
        """
        self._descriptor: int | None = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        until = time.monotonic() + _PATIENCE
        while (holder := _held_by(self._descriptor)) is not None:
            # The holder was killed during a fork, or is releasing the lock: its child, or itself, is closing the file.
            if (holder and not _gone(holder)) or time.monotonic() >= until:
                self._forget()
                raise LockedError(f"another process{_described(holder)} is using this run")
            time.sleep(_PAUSE)
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(_this_process()).encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.truncate(self._descriptor, 0)
            self._forget()

    def _forget(self) -> None:
        """Close the file; in the process that acquired the lock, this releases it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A fork inherits the open file, and the lock with it: orphaned workers would keep a killed run locked.
    for lock in list(_held):
        lock._forget()  # noqa: SLF001 (the module's own class)


os.register_at_fork(after_in_child=_forget_in_child)


def _held_by(descriptor: int) -> dict[str, Any] | None:
    """Acquire the lock and return None, or return what ``.lock`` says about its holder."""
    holder = _read(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder
    except OSError:  # a file system without locks
        return holder if holder and not _gone(holder) else None
    return None


def _this_process() -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    pid = os.getpid()
    return {"pid": pid, "started": _start_time(pid), "boot": _boot(), "host": platform.node(), "since": now}


def _boot() -> str:
    """Return the id of the machine's current boot; empty if the system has none."""
    try:
        return _BOOT.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it has ended."""
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
    """Return whether the holder is known to have ended; on another machine it never is."""
    if holder.get("host") != platform.node():
        return False
    pid = holder.get("pid")
    return holder.get("boot") != _boot() or not isinstance(pid, int) or _start_time(pid) != holder.get("started")


def _described(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "since"} <= holder.keys():
        return ""
    return f" (pid {holder['pid']} on {holder['host']}, since {holder['since']})"
