"""What is recorded of a run, and what is not."""

from __future__ import annotations

import threading
import time
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail_trackers.run_info import _clean, _flat
from dovetail_trackers.sender import Sender, SendingError

WORDS = st.text("abcxyz019-._~!$&'()*+,;=:%", min_size=1, max_size=12)


@given(WORDS, st.text("abc019.-", min_size=1, max_size=9), st.text("abc/@:?", max_size=9))
def test_no_credentials_are_left_in_a_url(secret, host, rest):
    """Whatever the password is made of; the rest of the address is kept."""
    shown = _clean(f"http://user:{secret}@{host}/{rest}")

    assert shown == f"http://***@{host}/{rest}"


@pytest.mark.parametrize("name", ["api_key", "apikey", "db_password", "PASSWORD", "client_secret"])
def test_options_that_should_have_been_secrets_are_hidden(name):
    """Their values are not recorded, at any depth; a reference to a variable is."""
    table = {"trackers": [{name: "hush"}], "model": {name: {"env": "NAME"}, "eos_token": "</s>", "key": "signal"}}

    assert _clean(table) == {
        "trackers": [{name: "***"}],
        "model": {name: {"env": "NAME"}, "eos_token": "</s>", "key": "signal"},
    }


def test_settings_are_flat():
    """Tables become dotted names; secrets, lists and what is not set become text."""
    table = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": {"env": "NAME"}, "f": True, "g": {}}

    assert dict(_flat("", table)) == {"a.b": 1, "a.c": "[1, 2]", "d": "", "e": "env:NAME", "f": True}


def test_calls_are_made_in_order_and_all_before_the_end():
    """What was posted has been sent when the sender is closed."""
    done, sender = [], Sender("test")
    for number in range(200):
        sender.post(lambda number=number: done.append(number))
    sender.close(60)

    assert done == list(range(200))


def test_after_a_failure_no_call_is_made_and_the_failure_is_raised():
    """At the next message, and at the end."""
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


def test_a_server_that_hangs_is_not_waited_for():
    """Neither by a message nor, for long, by the end; what is lost is said."""
    hang, sender = threading.Event(), Sender("test")
    sender.post(hang.wait)
    sender.post(time.time)
    with pytest.raises(SendingError, match=r"not everything was sent within 0\.05 s"):
        sender.close(0.05)
    hang.set()


def test_messages_that_pile_up_are_a_failure():
    """Memory is bounded: a server that cannot keep up is told apart from one that is slow."""
    hang, sender = threading.Event(), Sender("test")
    sender.post(hang.wait)
    with pytest.raises(SendingError, match="the server cannot keep up"):
        deque(map(sender.post, [time.time] * 10_001), maxlen=0)
    hang.set()
