"""Send in the background, so that training never waits for a server."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

#: Most calls that may wait. Beyond it, the server counts as failed.
_CAPACITY: Final = 10_000


class SendingError(RuntimeError):
    """Messages could not be sent."""


class Sender:
    """Make calls in order in a background thread.

    After a call has failed, no further calls are made; the next :meth:`post` or :meth:`close` raises its exception.
    """

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._calls: queue.Queue[Callable[[], object] | None] = queue.Queue(_CAPACITY)
        self._failure: Exception | None = None
        # A daemon, so that a server that never answers cannot keep the process alive.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def post(self, call: Callable[[], object]) -> None:
        """Queue a call.

        Raises:
            SendingError: too many calls are waiting.
            Exception: the exception of an earlier call.
        """
        self._raise()
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            raise SendingError(f"{_CAPACITY:,} messages are waiting to be sent: the server cannot keep up") from None

    def close(self, seconds: float) -> None:
        """Wait until everything is sent, at most ``seconds``.

        Raises:
            SendingError: not everything was sent in time.
            Exception: the exception of a call.
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
                except Exception as error:  # noqa: BLE001 (raised by the next post or close)
                    self._failure = error

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
