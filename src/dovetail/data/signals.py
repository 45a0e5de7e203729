"""Signals in loader workers: what goes to a whole group of processes is for the one that trains to act on."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

_OF_THE_RUN: Final = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def leave_signals_to_parent(_worker: int) -> None:
    """Go on through a Ctrl-C, a notice or a SIGTERM, unless the SIGTERM comes from the parent.

    A terminal, Slurm and systemd send signals to every process of a run. A worker that died of one would raise an error
    in the parent, in the middle of an update, where the parent means to end it and save a checkpoint. The parent's own
    SIGTERM, which is how Python ends workers that are left when it exits, is obeyed.
    """
    for one in _OF_THE_RUN:
        signal.signal(one, signal.SIG_IGN)
    # Blocked, and waited for in a thread: a handler in Python is not told who the sender was.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_wait_for_parent, name="dovetail-sigterm", daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    # Not as one that was killed: torch would report it.
    os._exit(0)
