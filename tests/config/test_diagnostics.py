"""Tests of dovetail.config.diagnostics."""

from __future__ import annotations

import datetime as dt
import pickle
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.diagnostics import (
    DEFAULT,
    PYTHON,
    ConfigError,
    Origin,
    Problem,
    found,
    nearest,
    suggest,
    toml_type,
    with_article,
)
from dovetail.config.notation import inline
from dovetail.kernel.secret import Env


@pytest.mark.parametrize(
    "origin, shown",
    [
        (Origin("bearing.toml", 18, 1), "bearing.toml:18:1"),
        (Origin("bearing.toml"), "bearing.toml"),
        (Origin.argument(2), "command line, argument 2"),
        (Origin("profile ci_fast (dovetail)"), "profile ci_fast (dovetail)"),
        (DEFAULT, "default"),
        (PYTHON, "Python"),
        (Origin("two\nlines.toml", 1, 2), "two\\nlines.toml:1:2"),
    ],
)
def test_origins_are_shown_as_users_know_them(origin: Origin, shown: str) -> None:
    """A position in a file is file:line:column, any other origin is words."""
    assert shown == str(origin)


def test_a_problem_is_one_line() -> None:
    """Colons join the parts of a problem; an empty path is left out."""
    origin = Origin("bearing.toml", 18, 1)
    problem = Problem(origin, "loss.lamda_freq", "unknown key; did you mean 'lambda_freq'?")

    assert str(problem) == "bearing.toml:18:1: loss.lamda_freq: unknown key; did you mean 'lambda_freq'?"
    assert str(Problem(origin, "", "no\nnews")) == "bearing.toml:18:1: no news"


def test_problems_are_sorted_and_unique() -> None:
    """Positions in files come first, by file, line and column; arguments follow by number, not by digit."""
    problems = [
        Problem(Origin.argument(10), "a", "wrong"),
        Problem(Origin.argument(2), "a", "wrong"),
        Problem(Origin("b.toml", 1, 1), "a", "wrong"),
        Problem(Origin("a.toml", 10, 1), "a", "wrong"),
        Problem(Origin("a.toml", 2, 9), "a", "wrong"),
        Problem(Origin("a.toml", 2, 1), "b", "wrong"),
        Problem(Origin("a.toml", 2, 1), "a", "wrong"),
        Problem(Origin("a.toml", 2, 1), "a", "wrong"),
    ]

    error = ConfigError(problems)

    assert str(error).splitlines() == [
        "a.toml:2:1: a: wrong",
        "a.toml:2:1: b: wrong",
        "a.toml:2:9: a: wrong",
        "a.toml:10:1: a: wrong",
        "b.toml:1:1: a: wrong",
        "command line, argument 2: a: wrong",
        "command line, argument 10: a: wrong",
    ]


def test_errors_survive_a_process_boundary() -> None:
    """A worker process returns its problems complete."""
    error = ConfigError([Problem(Origin("a.toml", 2, 1), "a", "wrong")])

    assert error.problems == pickle.loads(pickle.dumps(error)).problems  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    "value, word, text",
    [
        (None, "none", "none"),
        ("30", "string", 'the string "30"'),
        ("x" * 41, "string", f'the string "{"x" * 40}…"'),
        (30, "integer", "the integer 30"),
        (3.9, "float", "the float 3.9"),
        (float("-inf"), "float", "the float -inf"),
        (True, "boolean", "the boolean true"),
        ([], "array", "an empty array"),
        ([1], "array", "an array of 1 value"),
        ((1, 2), "array", "an array of 2 values"),
        ({}, "table", "an empty table"),
        ({"a": 1}, "table", "a table with the key a"),
        ({"a": 1, "b c": 2}, "table", 'a table with the keys a, "b c"'),
        (dict.fromkeys("abcd", 1), "table", "a table with 4 keys (a, b, c, …)"),
        (dt.date(2026, 11, 20), "date", "the date 2026-11-20"),
        (dt.time(7, 32), "time", "the time 07:32:00"),
        (dt.datetime(2026, 11, 20, tzinfo=dt.UTC), "date and time", "the date and time 2026-11-20T00:00:00+00:00"),
        (Env("TOKEN"), "secret", "the secret in the environment variable TOKEN"),
        (Path("x"), type(Path()).__name__, f"a {type(Path()).__name__} object"),
    ],
)
def test_values_are_named_in_the_words_of_toml(value: object, word: str, text: str) -> None:
    """A value is described briefly, with TOML's word for its type."""
    assert word == toml_type(value)
    assert text == found(value)


def test_integers_beyond_what_python_writes() -> None:
    """An integer of thousands of digits, which only a program can pass, can be described."""
    assert found(16**5000) == f"the integer 0x1{'0' * 37}…"
    assert tomli.loads(f"x = {inline(16**5000)}") == {"x": 16**5000}


def test_articles() -> None:
    """An integer, an array; a string, a table."""
    assert [with_article(word) for word in ("integer", "array", "string")] == ["an integer", "an array", "a string"]


@pytest.mark.parametrize(
    "name, candidates, meant",
    [
        ("lamda_freq", ["lambda_freq", "lambda_amp"], "lambda_freq"),
        ("max-epochs", ["max_epoch", "max_epochs"], "max_epochs"),
        ("MaxEpochs", ["max_epochs"], "max_epochs"),
        ("lr ", ["lr"], "lr"),
        ("opitmizer", ["optimizer", "trainer"], "optimizer"),
        ("epochs", ["max_epochs", "seed"], "max_epochs"),
        ("learning_rate", ["lr", "betas"], "lr"),
        ("wd", ["weight_decay", "width"], "weight_decay"),
        ("focall", ["focal", "local"], "focal"),
        ("gamma", ["alpha", "beta"], None),
        ("a", ["b"], None),
        ("x", [""], None),
        ("", ["x", ""], None),
        ("same", ["same"], None),
        ("x" * 101, ["x" * 100], None),
        ("anything", [], None),
    ],
)
def test_suggestions(name: str, candidates: list[str], meant: str | None) -> None:
    """The nearest name is suggested, or none if none is near."""
    assert meant == nearest(name, candidates)
    assert suggest(name, candidates) == ("" if meant is None else f"; did you mean '{meant}'?")


@given(name=st.text(max_size=20), candidates=st.lists(st.text(max_size=20), max_size=5))
def test_suggestions_come_from_the_candidates(name: str, candidates: list[str]) -> None:
    """A suggestion is one of the candidates, whatever their order, and never the name itself."""
    meant = nearest(name, candidates)

    assert meant is None or (meant in candidates and meant != name)
    assert meant == nearest(name, reversed(candidates))
