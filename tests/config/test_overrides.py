"""Tests of dovetail.config.overrides: arguments such as a.b=VALUE, which together are one layer."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.compose import compose
from dovetail.config.diagnostics import ConfigError
from dovetail.config.notation import dotted, inline
from dovetail.kernel.secret import Env
from strategies import key_names, plain_values

BASE = {
    "run": {"name": "bearing", "seed": 42},
    "model": {"type": "mlp", "width": 3},
    "phases": [{"lr": 1.0}, {"lr": 0.1}],
    "training": {"validate_every": 1},
}


def overridden(*arguments: str, base: dict[str, Any] | None = None) -> Any:
    """Return the plain values of the base with some overrides."""
    return compose(None, base=BASE if base is None else base, overrides=arguments).to_python()


def refusals(*arguments: str) -> list[str]:
    """Return the messages about overrides that are refused."""
    with pytest.raises(ConfigError) as raised:
        compose(None, base=BASE, overrides=arguments)
    return str(raised.value).splitlines()


@pytest.mark.parametrize(
    "text, value",
    [
        ("30", 30),
        ("1e-3", 1e-3),
        ("0xff", 255),
        ("true", True),
        ("2026-11-20", dt.date(2026, 11, 20)),
        ('"30"', "30"),
        ("'C:\\data'", "C:\\data"),
        ('["a", 1]', ["a", 1]),
        ("[\r\n1,\r\n]", [1]),
        ('{ type = "focal", gamma = 2.0 }', {"type": "focal", "gamma": 2.0}),
        ("focal", "focal"),
        ("two words", "two words"),
        ("it's", "it's"),
        ("../data/x.csv", "../data/x.csv"),
        ("True", "True"),
        (".5", ".5"),
        ("a=b", "a=b"),
        ("1 # one", "1 # one"),
        ("1\nseed = 2", "1\nseed = 2"),
        ("ü", "ü"),
        ("", ""),
        ("@none", None),
        ('"@none"', None),
        ("@someone", "@someone"),
        ("." * 50, "." * 50),
    ],
)
def test_values_are_toml_or_else_text(text: str, value: object) -> None:
    """A value that is TOML is read as TOML; any other is the text itself."""
    assert overridden(f"run.name={text}")["run"]["name"] == value
    assert overridden(f"  run . name = {text} ")["run"]["name"] == value


@given(path=st.lists(key_names, min_size=1, max_size=3), value=plain_values)
def test_every_key_and_value_can_be_overridden(path: list[str], value: Any) -> None:
    """Any key and any value can be given in TOML notation."""
    tree = overridden(f"{dotted(['x', *path])}={inline(value)}", base={})["x"]
    for name in path:
        tree = tree[name]

    assert repr(tree) == repr(_resolved(value))


def _resolved(value: Any) -> Any:
    """Return a value as compose() does: None for its string, and secrets for their tables."""
    match value:
        case "@none":
            return None
        case {"env": str(name)} if len(value) == 1 and name.isidentifier() and name.isascii():
            return Env(name)
        case dict():
            return {name: _resolved(inner) for name, inner in value.items()}
        case list():
            return [_resolved(inner) for inner in value]
        case _:
            return value


def test_tables_given_as_values_merge() -> None:
    """An inline table merges with an existing table, as it would in a file."""
    assert overridden("run={seed=1, notes='x'}")["run"] == {"name": "bearing", "seed": 1, "notes": "x"}
    assert overridden("training.validate_every.steps=100")["training"] == {"validate_every": {"steps": 100}}


def test_a_new_type_drops_the_options_of_the_old() -> None:
    """Inherited options of another type are dropped; those of overrides for the new type stay, in any order."""
    arguments = ["model.type=cnn", "model.depth=2", "model.norm.eps=0.1"]

    for ordered in itertools.permutations(arguments):
        assert overridden(*ordered)["model"] == {"type": "cnn", "depth": 2, "norm": {"eps": 0.1}}
    assert overridden("model.type=mlp")["model"] == {"type": "mlp", "width": 3}


def test_keys_are_removed() -> None:
    """@unset removes a key or a table; None is a value."""
    assert overridden("run.name=@unset", "model=@unset")["run"] == {"seed": 42}
    assert "model" not in overridden("model=@unset")
    assert overridden("model=@none")["model"] is None
    assert overridden("model.type=cnn", "model.width=@unset")["model"] == {"type": "cnn"}
    assert overridden("model.type=@unset")["model"] == {"width": 3}


EXAMPLE = "write KEY=VALUE, for example training.max_epochs=3"
NO_KEY = f"is not a dotted key; {EXAMPLE}, and put other characters in quotes"
TAGS = '["a", "b"]'
NO_TOML = "is not a TOML value"
ARRAY = "phases is an array (default), and one element cannot be overridden"


@pytest.mark.parametrize(
    "argument, said",
    [
        ("training", f"'training' has no '='; {EXAMPLE}"),
        ("", f"'' has no '='; {EXAMPLE}"),
        ("other.toml", f"'other.toml' has no '='; {EXAMPLE}; a run has one file, which may name others in extends"),
        ("=3", f"'=3' has no key before the '='; {EXAMPLE}"),
        ("a..b=1", f"'a..b' {NO_KEY}"),
        ("my key=1", f"'my key' {NO_KEY}"),
        ('a."b=1', f"'a.\"b' {NO_KEY}"),
        ("a\nb=1", f"'a\\nb' {NO_KEY}"),
        (
            "run.tags=[1, 2",
            f"run.tags: '[1, 2' {NO_TOML}: unclosed array; for example run.tags='{TAGS}'",
        ),
        (
            "x=[a]",
            f"x: '[a]' {NO_TOML}: invalid value; a string needs quotes: \"a\"; for example x='{TAGS}'",
        ),
        (
            "x={a: b}",
            (
                f"x: '{{a: b}}' {NO_TOML}: expected '=' after a key in a key/value pair; "
                "for example x='{ type = \"cnn\" }'"
            ),
        ),
        ('x="y', f"x: '\"y' {NO_TOML}: unterminated string; for example x='\"text\"'"),
        ("x=1", "x: set to the integer 1 here, but to the integer 0 by command line, argument 1"),
        (
            "x=['a'] # b",
            f'x: "[\'a\'] # b" {NO_TOML}: expected one value and nothing after it; for example x=\'["a", "b"]\'',
        ),
        ("phases.0.lr=1", f"phases.0.lr: {ARRAY}; give the whole array instead, for example phases='[…]'"),
        ("phases.lr=1", f"phases.lr: {ARRAY}; give the whole array instead, for example phases='[…]'"),
        ("run.nmae=@unset", "run.nmae: nothing is set here that @unset could remove; did you mean 'name'?"),
        ("new.table.x=@unset", "new.table.x: nothing is set here that @unset could remove"),
        ("run.tags=['@unset']", "run.tags[0]: @unset removes a key, not an element of an array"),
        ("profile.fast.x=1", "profile.fast.x: only a file can say profile; choose a profile with --profile NAME"),
        ("extends=['a.toml']", "extends: only a file can say extends"),
        ("run.name=\udcff", "'run.name=\\uDCFF' is not UTF-8"),
    ],
)
def test_messages_about_arguments(argument: str, said: str) -> None:
    """The message has the number of the argument, the text in question and an example."""
    assert refusals("x=0", argument) == [f"command line, argument 2: {said}"]


@pytest.mark.parametrize(
    "argument, said",
    [
        ("a." * 100_000 + "b=1", f"a key of more than 32 parts: '{'a.' * 14}a…{'a.' * 13}b=1'"),
        ("k" * 200_000 + "=1", f"a key of more than 256 characters: '{'k' * 29}…{'k' * 27}=1'"),
        ("x=" + "9" * 5_000, f"x: a number of more than 300 digits: '{'9' * 29}…{'9' * 29}'"),
        ("x=" + "[" * 10_000, f"x: tables and arrays nested more than 32 deep: '{'[' * 29}…{'[' * 29}'"),
    ],
    ids=["deep key", "long key", "digits", "nesting"],
)
def test_hostile_arguments_end_in_one_line(argument: str, said: str) -> None:
    """What no run needs is refused in less than two seconds, with a shortened text."""
    started = time.process_time()

    assert refusals(argument) == [f"command line, argument 1: {said}"]
    assert time.process_time() - started < 2


def test_the_same_key_twice() -> None:
    """The same value twice is accepted; the message about two values names both arguments."""
    assert overridden("run.seed=1", "run.seed=1", "run.x=nan", "run.x=nan")["run"]["seed"] == 1
    [said] = refusals("run.seed=1", "run.name=x", "run.seed=2")
    assert said.startswith("command line, argument 3: run.seed: set to the integer 2 here, ")
    assert said.endswith("but to the integer 1 by command line, argument 1")
    assert len(refusals("run.seed=1", "run.seed=1.0")) == 1
    assert len(refusals("run.seed=1", "run.seed=true")) == 1


def test_a_value_and_keys_below_it_contradict_each_other() -> None:
    """An argument cannot set a value if another sets keys below it, in either order."""
    [item] = refusals("a=1", "a.b=2")
    [other] = refusals("a.b=2", "a=@unset")
    assert item.startswith("command line, argument 2: a: set to a table with the key b here, ")
    assert item.endswith("but to the integer 1 by command line, argument 1")
    assert other.startswith('command line, argument 2: a: set to the string "@unset" here, ')
    assert other.endswith("but to a table with the key b by command line, argument 1")
    assert overridden("a={x=1}", "a.y=2")["a"] == {"x": 1, "y": 2}


def test_all_wrong_arguments_together() -> None:
    """Every wrong argument is reported, in the order of the arguments."""
    said = refusals("a", *["run.seed=1"] * 9, "=1", "run.nmae=@unset")

    assert [line.split(":")[0] for line in said] == [f"command line, argument {number}" for number in (1, 11, 12)]


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_argument_is_read_or_refused(key: str, value: str) -> None:
    """Any argument sets a value or gets one line."""
    try:
        tree = compose(None, overrides=[f"{key}={value}"])
    except ConfigError as error:
        [problem] = error.problems
        assert str(problem).isprintable()
    else:
        assert tree.table


def test_infinities_and_secrets() -> None:
    """Special floats are TOML; a table with only env is a secret."""
    made = overridden("a.x=-inf", "a.token={env='TOKEN'}", "a.other.env=OTHER", "a.game.env=CartPole-v1")["a"]

    assert made["x"] == -math.inf
    assert made["token"] == Env("TOKEN")
    assert made["other"] == Env("OTHER")
    assert made["game"] == {"env": "CartPole-v1"}
