"""Signals: the first asks the run to stop with a checkpoint; a second Ctrl-C or SIGTERM ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

from dovetail.record.files import ECHO, WATCHED

if TYPE_CHECKING:
    from dovetail.train.context import Run

#: From a person, or from whoever manages machines and jobs: a second one means it.
ORDERS: Final = (signal.SIGINT, signal.SIGTERM)
#: That the time is nearly up, as Slurm says it, or that the terminal is gone: often followed by a SIGTERM, which is
#: then the first of its kind.
_NOTICES: Final = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_STANDARD_ERROR: Final = 2


def heeded() -> tuple[signal.Signals, ...]:
    """Return the signals that a run stops on: of a terminal that is gone not under ``nohup``, which has it ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(one for one in (*ORDERS, *_NOTICES) if one != signal.SIGHUP or not ignored)


@contextlib.contextmanager
def stopping_on_signals(run: Run, doing: str = "stopping with a checkpoint") -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGUSR1, SIGUSR2, SIGHUP into ``run.request_stop``; a second of the former two kills.

    What is said is what the run is then ``doing``. Outside the main thread, where Python cannot handle signals, this
    does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    own = os.getpid()

    def handle(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:
            return  # a child that has just been forked; workers have handlers of their own
        name = signal.Signals(number).name
        run.request_stop(f"got {name}", by=name, status="interrupted")
        if number in _NOTICES:
            _say(f"\n{name}: {doing}\n")
            return
        _answer_orders(signal.SIG_IGN)
        _say(f"\n{name}: {doing}; once more ends at once\n")
        if not os.environ.get(WATCHED):
            time.sleep(ECHO)
            # The kernel's own default, so that it works inside a long call into C too.
            _answer_orders(signal.SIG_DFL)
        # Whoever started several processes passes on what may have come here too, and ends them all when told again.

    before = {one: signal.signal(one, handle) for one in heeded()}
    try:
        yield
    finally:
        for one, handler in before.items():
            # What is passed on may come late: until the process ends it is not to be killed by it.
            if not (os.environ.get(WATCHED) and signal.getsignal(one) == signal.SIG_IGN):
                signal.signal(one, handler)


def _answer_orders(answer: signal.Handlers) -> None:
    for one in ORDERS:
        signal.signal(one, answer)


def _say(text: str) -> None:
    # Not print: the signal may have come in the middle of one. The terminal may be gone: that is often why it came.
    with contextlib.suppress(OSError):
        os.write(_STANDARD_ERROR, text.encode())
