"""Sending in the background: training never waits for somebody else's server."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

#: Calls that may wait to be sent. A server that cannot keep up with so many has failed.
_CAPACITY: Final = 10_000


class SendingError(RuntimeError):
    """What was to be sent could not be."""


class Sender:
    """Makes calls one after another, in the order in which they came, in a thread of its own.

    After one has failed none is made any more; the failure is raised at the next :meth:`post` or :meth:`close`.
    """

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._calls: queue.Queue[Callable[[], object] | None] = queue.Queue(_CAPACITY)
        self._failure: Exception | None = None
        # A daemon: a server that never answers does not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def post(self, call: Callable[[], object]) -> None:
        """Have ``call`` made, soon.

        Raises:
            SendingError: too many calls are waiting.
            Exception: whatever an earlier call raised.
        """
        self._raise()
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            raise SendingError(f"{_CAPACITY:,} messages are waiting to be sent: the server cannot keep up") from None

    def close(self, seconds: float) -> None:
        """Wait until everything is sent, but no longer than ``seconds``.

        Raises:
            SendingError: not everything was sent in time.
            Exception: whatever a call raised.
        """
        try:
            self._calls.put_nowait(None)
            self._thread.join(seconds)
        except queue.Full:
            pass
        self._raise()
        if self._thread.is_alive():
            raise SendingError(f"not everything was sent within {seconds:g} s; {self._calls.qsize()} messages are lost")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._failure is None:
                try:
                    call()
                except Exception as error:  # noqa: BLE001 (kept, and raised where it can be told)
                    self._failure = error

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
