"""Signals in loader workers: what goes to a whole group of processes is for the one that trains to act on."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

_OF_THE_RUN: Final = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
#: Seconds between one look for the parent and the next.
_LOOK: Final = 1.0


def leave_signals_to_parent(_worker: int) -> None:
    """Go on through a Ctrl-C, a notice or a SIGTERM, unless the SIGTERM comes from the parent, or that is gone.

    A terminal, Slurm and systemd send signals to every process of a run. A worker that died of one would raise an error
    in the parent, in the middle of an update, where the parent means to end it and save a checkpoint. The parent's own
    SIGTERM, which is how Python ends workers that are left when it exits, is obeyed. When the parent is killed, torch
    ends a worker that asks for the next batch; one that hangs in a sample would stay.
    """
    for one in _OF_THE_RUN:
        signal.signal(one, signal.SIG_IGN)
    # Blocked, and waited for in a thread: a handler in Python is not told who the sender was.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    parent = os.getppid()
    threading.Thread(target=_wait_for, args=(parent,), name="dovetail-sigterm", daemon=True).start()


def _wait_for(parent: int) -> None:
    while os.getppid() == parent:
        told = signal.sigtimedwait([signal.SIGTERM], _LOOK)
        if told is not None and told.si_pid == parent:
            break
    # Not as one that was killed: torch would report it.
    os._exit(0)
