"""Fixtures of the tests of training."""

from __future__ import annotations

import time

import pytest


class Clock:
    """Runs like the real clock, and jumps ahead when a test says so."""

    def __init__(self) -> None:
        self._real, self._ahead = time.monotonic, 0.0

    def monotonic(self) -> float:
        """Return the seconds."""
        return self._real() + self._ahead

    def advance(self, seconds: float) -> None:
        """Jump ahead."""
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch):
    """Return a clock on which minutes pass at once; the real seconds of a test do not matter beside them."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock
