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

from dovetail.spec.process import (
    DUPLICATE_SIGNAL_SECONDS,
    NOTICE_SIGNALS,
    STOP_SIGNALS,
    SUPERVISED,
    handled_signals,
)

if TYPE_CHECKING:
    from dovetail.train.context import Run

_STANDARD_ERROR: Final = 2


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
        if number in NOTICE_SIGNALS:
            _say(f"\n{name}: {doing}\n")
            return
        _answer_orders(signal.SIG_IGN)
        _say(f"\n{name}: {doing}; once more ends at once\n")
        if not os.environ.get(SUPERVISED):
            time.sleep(DUPLICATE_SIGNAL_SECONDS)
            # The kernel's own default, so that it works inside a long call into C too.
            _answer_orders(signal.SIG_DFL)
        # Whoever started several processes passes on what may have come here too, and ends them all when told again.

    before = {one: signal.signal(one, handle) for one in handled_signals()}
    try:
        yield
    finally:
        for one, handler in before.items():
            # What is passed on may come late: until the process ends it is not to be killed by it.
            if not (os.environ.get(SUPERVISED) and signal.getsignal(one) == signal.SIG_IGN):
                signal.signal(one, handler)


def _answer_orders(answer: signal.Handlers) -> None:
    for one in STOP_SIGNALS:
        signal.signal(one, answer)


def _say(text: str) -> None:
    # Not print: the signal may have come in the middle of one. The terminal may be gone: that is often why it came.
    with contextlib.suppress(OSError):
        os.write(_STANDARD_ERROR, text.encode())
