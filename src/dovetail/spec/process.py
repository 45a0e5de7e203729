"""What the processes of one command agree on: exit codes, environment variables, and signals that stop a run."""

from __future__ import annotations

import signal
from typing import Final

# --- exit codes -------------------------------------------------------------------------------------------------------

FAILED: Final = 1
BAD_INPUT: Final = 2
OUT_OF_BUDGET: Final = 3
#: A supervised process lost contact with another one. It is not the cause, so it leaves the message to its supervisor.
LOST_CONTACT: Final = 4
INTERRUPTED: Final = 130

# --- environment variables --------------------------------------------------------------------------------------------

#: Holds the same id in all processes of one command, restarted ones included. A restart finds its run by this id.
LAUNCH_ID: Final = "DOVETAIL_LAUNCH"
#: Is set in processes that ``--nproc`` or ``--max-restarts`` started: their supervisor reports why others ended.
SUPERVISED: Final = "DOVETAIL_WATCHED"

# --- signals ----------------------------------------------------------------------------------------------------------

#: Sent by a person or a job manager: the first stops the run with a checkpoint, a second one kills it.
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
#: Sent when time is nearly up (Slurm) or the terminal closes. A SIGTERM often follows; it then counts as a first one.
NOTICE_SIGNALS: Final = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
#: Within this many seconds, a second signal is a duplicate of the first: ``timeout`` signals both the process and its
#: group.
DUPLICATE_SIGNAL_SECONDS: Final = 0.2


def handled_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop a run; without SIGHUP where ``nohup`` blocks it."""
    blocked = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in (*STOP_SIGNALS, *NOTICE_SIGNALS) if number != signal.SIGHUP or not blocked)
