"""The background sender: order, failures, and servers that do not answer."""

from __future__ import annotations

import threading
import time
from collections import deque

import pytest

from dovetail_trackers.sender import Sender, SendingError


def test_calls_are_made_in_order_before_close_returns():
    """Everything that was posted has been sent when the sender is closed."""
    done, sender = [], Sender("test")
    for number in range(200):
        sender.post(lambda number=number: done.append(number))
    sender.close(60)

    assert done == list(range(200))


def test_after_a_failure_no_call_is_made_and_the_failure_is_raised():
    """Both the next post and close raise the exception of the failed call."""
    done, sender, posted = [], Sender("test"), threading.Event()

    def fail():
        posted.wait()
        raise ConnectionError("gone")

    sender.post(fail)
    sender.post(lambda: done.append(1))
    posted.set()
    with pytest.raises(ConnectionError, match="gone"):
        sender.close(60)
    with pytest.raises(ConnectionError, match="gone"):
        sender.post(lambda: done.append(2))

    assert done == []


def test_a_server_that_hangs_does_not_block():
    """Neither post nor close waits for it, and close reports that messages are lost."""
    hang, sender = threading.Event(), Sender("test")
    sender.post(hang.wait)
    sender.post(time.time)
    with pytest.raises(SendingError, match=r"not everything was sent within 0\.05 s; \d+ messages are lost"):
        sender.close(0.05)
    hang.set()


def test_too_many_waiting_messages_are_a_failure():
    """The queue is bounded, so a server that cannot keep up does not fill the memory."""
    hang, sender = threading.Event(), Sender("test")
    sender.post(hang.wait)
    with pytest.raises(SendingError, match="the server cannot keep up"):
        deque(map(sender.post, [time.time] * 10_001), maxlen=0)
    hang.set()
