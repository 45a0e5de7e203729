"""Tests of dovetail.config.plain."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path

import attrs

from config_parts import Colour, Range
from dovetail.config.freeze import (
    writable,
)
from dovetail.config.plain import is_plain, plain
from dovetail.kernel.secret import Env


class Odd(enum.Enum):
    """An enumeration."""

    A = ("x", 1)


def test_plain_values() -> None:
    """Everything that a configuration holds has a plain form."""
    assert plain({"a": (1, 2), "b": {3, 1, 2}, "c": Path("x"), "d": Colour.RED, "e": Odd.A}) == {
        "a": [1, 2],
        "b": [1, 2, 3],
        "c": "x",
        "d": "red",
        "e": ["x", 1],
    }
    assert plain(Range(0.0)) == {"low": 0.0, "high": 1.0, "unit": "Hz"}
    assert plain(Range) == f"python:{Range.__module__}.Range"
    assert plain(len) == "python:builtins.len"
    assert attrs.has(Range)


def test_what_is_plain() -> None:
    """A value is plain if TOML has a notation for it, with @none for None."""
    assert is_plain({"a": [1, None, {"b": dt.date(2024, 1, 1)}]})
    assert not is_plain({1: 2})
    assert not is_plain([object()])
    assert writable({"a": [None, Env("X")], "b": 1}) == {"a": ["@none", {"env": "X"}], "b": 1}
