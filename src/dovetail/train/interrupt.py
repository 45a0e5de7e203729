"""Ctrl-C and SIGTERM: the first asks the run to stop with a checkpoint, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dovetail.train.context import Run

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_STANDARD_ERROR: Final = 2


@contextlib.contextmanager
def stopping_on_signals(run: Run) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into ``run.request_stop``; the next one kills the process.

    Outside the main thread, where Python cannot handle signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        run.request_stop(f"got {name}", by=name, status="interrupted")
        for one in _SIGNALS:
            # The kernel's own default, so that it works inside a long call into C too.
            signal.signal(one, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(_STANDARD_ERROR, f"\n{name}: stopping with a checkpoint; once more ends at once\n".encode())

    before = {one: signal.signal(one, handle) for one in _SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
