"""Signal handling: the first signal asks the run to stop with a checkpoint; a second Ctrl-C or SIGTERM kills it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

from dovetail.spec.process import DUPLICATE_SIGNAL_SECONDS, NOTICE_SIGNALS, STOP_SIGNALS, SUPERVISED, handled_signals

if TYPE_CHECKING:
    from dovetail.train.context import Run

_STANDARD_ERROR: Final = 2


@contextlib.contextmanager
def stopping_on_signals(run: Run, doing: str = "stopping with a checkpoint") -> Iterator[None]:
    """Turn SIGINT, SIGTERM, SIGUSR1, SIGUSR2 and SIGHUP into ``run.request_stop``; a second of the first two kills.

    The message says what the run is then ``doing``. Outside the main thread, where Python cannot handle signals, this
    does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    own = os.getpid()

    def handle(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:
            return  # a child that was just forked; workers have handlers of their own
        name = signal.Signals(number).name
        run.request_stop(f"got {name}", by=name, status="interrupted")
        if number in NOTICE_SIGNALS:
            _say(f"\n{name}: {doing}\n")
            return
        _set_stop_handlers(signal.SIG_IGN)
        _say(f"\n{name}: {doing}; once more ends at once\n")
        if not os.environ.get(SUPERVISED):
            time.sleep(DUPLICATE_SIGNAL_SECONDS)
            # The kernel's default action, which also works inside a long call into C.
            _set_stop_handlers(signal.SIG_DFL)
        # The launcher of several processes forwards signals, and kills them all at the second one.

    before = {each: signal.signal(each, handle) for each in handled_signals()}
    try:
        yield
    finally:
        for each, handler in before.items():
            # A forwarded signal may arrive late, and must not kill a process that is ending.
            if not (os.environ.get(SUPERVISED) and signal.getsignal(each) == signal.SIG_IGN):
                signal.signal(each, handler)


def _set_stop_handlers(answer: signal.Handlers) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, answer)


def _say(text: str) -> None:
    # Not print, which the signal may have interrupted. The terminal may be closed, which is often why it was sent.
    with contextlib.suppress(OSError):
        os.write(_STANDARD_ERROR, text.encode())
