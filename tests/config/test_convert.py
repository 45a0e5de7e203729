"""Tests of dovetail.config.convert."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config_parts as parts
from config_parts import WHOLE, Check, Colour, Level, Range, Recorder, Refusals, model
from dovetail.config.annotations import accepts, describe
from dovetail.config.convert import Converter, Slot
from dovetail.config.diagnostics import ConfigError, toml_type
from dovetail.config.tree import Entry, Node
from dovetail.spec.limits import AtLeast, Between, MoreThan


@pytest.mark.parametrize(
    "line, name, expected",
    [
        ("dropout = 1", "dropout", 1.0),
        ("kernel = [5, 7]", "kernel", (5, 7)),
        ("strides = []", "strides", ()),
        ('activation = "gelu"', "activation", "gelu"),
        ("bias = false", "bias", False),
        ('colour = "green"', "colour", Colour.GREEN),
        ("level = 2", "level", Level.HIGH),
        ("band = { low = 1 }", "band", None),
        ("bands = { a = { low = 0.5, unit = 'rpm' } }", "bands", {"a": Range(0.5, unit="rpm")}),
        ('names = ["a", "b"]', "names", ["a", "b"]),
        ('tags = ["a", "a"]', "tags", frozenset({"a"})),
        ("weights = 2", "weights", 2.0),
        ("weights = [1, 2.5]", "weights", [1.0, 2.5]),
        ('weights = "balanced"', "weights", "balanced"),
        ('weights = "@none"', "weights", None),
        ("scale = 3", "scale", 3),
        ("scale = 3.5", "scale", 3.5),
        ("by_class = { 0 = 1, -1 = 2.0 }", "by_class", {0: 1.0, -1: 2.0}),
        ('either = "red"', "either", Colour.RED),
        ("either = 7", "either", 7),
        ("anything = { a = [1, { b = 2020-01-01 }] }", "anything", {"a": [1, {"b": dt.date(2020, 1, 1)}]}),
        ("bare = [1, 'x']", "bare", [1, "x"]),
        ("half = { thing = { x = 1 } }", "half", parts.HalfKnown({"x": 1})),
    ],
)
def test_types_of_options(check: Check, line: str, name: str, expected: object) -> None:
    """Every type that a signature may have is read from TOML, exactly."""
    if name == "band":
        with pytest.raises(ConfigError, match=r"high must be more than low = 1"):
            check(model(line))
        return

    options = check(model(line)).model.options

    assert options[name] == expected
    assert type(options[name]) is type(expected)


def test_recursive_classes(check: Check) -> None:
    """An attrs class may refer to itself."""
    config = check(model('tree = { name = "a", children = [{ name = "b", children = [{ name = "c" }] }] }'))

    assert config.model.options["tree"] == parts.Tree("a", [parts.Tree("b", [parts.Tree("c")])])


def test_dates_and_paths(check: Check) -> None:
    """A date is a date and not a time; a path is made of a string."""
    config = check(
        WHOLE.replace("[model]", 'path = "a/b"\nwhen = 2024-02-29\nat = 2024-02-29T12:00:00\nclock = 07:32:00\n[model]')
    )

    assert config.data.options == {
        "path": Path("a/b"),
        "when": dt.date(2024, 2, 29),
        "at": dt.datetime(2024, 2, 29, 12),  # noqa: DTZ001 (TOML's local time)
        "clock": dt.time(7, 32),
    }


@pytest.mark.parametrize(
    "line, message",
    [
        ('dropout = "0.5"', '7:11: model.dropout: expected a number, got the string "0.5"; write 0.5 without quotes'),
        ("dropout = 3.0", "7:11: model.dropout: must be between 0 and 1, got 3.0"),
        ("dropout = nan", "7:11: model.dropout: must be between 0 and 1, got nan"),
        ("dropout = true", "7:11: model.dropout: expected a number, got the boolean true"),
        ("dropout = '@none'", "7:11: model.dropout: expected a number, got none"),
        (
            'bias = "false"',
            '7:8: model.bias: expected true or false, got the string "false"; write false without quotes',
        ),
        ("bias = 1", "7:8: model.bias: expected true or false, got the integer 1"),
        ("kernel = [1]", "7:10: model.kernel: expected an array of 2 integers, got an array of 1 value"),
        ("kernel = [1, 2.0]", "7:14: model.kernel[1]: expected an integer, got the float 2.0; write 2"),
        ("kernel = 3", "7:10: model.kernel: expected an array of 2 integers, got the integer 3"),
        ("kernel = [true, 1]", "7:11: model.kernel[0]: expected an integer, got the boolean true"),
        ('activation = "rellu"', "7:14: model.activation: 'rellu' is not one of 'relu', 'gelu'; did you mean 'relu'?"),
        ("activation = 1", "7:14: model.activation: the integer 1 is not one of 'relu', 'gelu'"),
        ('colour = "blue"', "7:10: model.colour: 'blue' is not one of 'red', 'green'"),
        ("level = true", "7:9: model.level: the boolean true is not one of 1, 2"),
        ("names = 'abc'", '7:9: model.names: expected an array of strings, got the string "abc"'),
        ("tags = [1]", "7:9: model.tags[0]: expected a string, got the integer 1"),
        ("weights = [1, 'x']", '7:15: model.weights[1]: expected a number, got the string "x"'),
        (
            "weights = 'balancd'",
            (
                "7:11: model.weights: expected a number, an array of numbers or 'balanced', got the string \"balancd\";"
                " did you mean 'balanced'?"
            ),
        ),
        (
            "weights = {}",
            "7:11: model.weights: expected a number, an array of numbers or 'balanced', got an empty table",
        ),
        ("by_class = { a = 1 }", '7:14: model.by_class.a: expected an integer, got the string "a"'),
        ("by_class = { 1 = 'x' }", '7:18: model.by_class.1: expected a number, got the string "x"'),
        ("by_class = 1", "7:12: model.by_class: expected a table, got the integer 1"),
        ("band = 3", "7:8: model.band: expected a table with the keys low, high, unit, got the integer 3"),
        ("band = {}", "7:8: model.band: this table needs 'low' (a number)"),
        ("band = { low = 0, hgh = 2 }", "7:19: model.band.hgh: unknown key; did you mean 'high'?"),
        ("band = { low = 1 }", "7:8: model.band.high: high must be more than low = 1"),
        ("band = { low = 0, unit = 'm' }", "7:26: model.band.unit: 'unit' must be in ['Hz', 'rpm'] (got 'm')"),
        (
            "bands = { a = { low = '1' } }",
            '7:23: model.bands.a.low: expected a number, got the string "1"; write 1 without quotes',
        ),
        ("tree = { name = 'a', children = [{}] }", "7:34: model.tree.children[0]: this table needs 'name' (a string)"),
        ("half = { count = 'x' }", None),
        ("hiden = [8]", "7:1: model.hiden: unknown key; did you mean 'hidden'?"),
        ("tensor = 1", None),
        ("either = 'blue'", "7:10: model.either: expected 'red', 'green' or an integer, got the string \"blue\""),
    ],
)
def test_messages_about_options(refusals: Refusals, check: Check, line: str, message: str | None) -> None:
    """Each message has the position, what was expected, what was found and, with a good guess, what was meant."""
    if message is None:  # nothing is known about the type, so nothing is refused
        check(model(line))
        return

    assert refusals(model(line)) == [f"run.toml:{message}"]


def test_numbers_beyond_floats(refusals: Refusals) -> None:
    """An integer that no float can hold is refused."""
    (message,) = refusals(model(f"dropout = {'9' * 300}" + "9" * 10))[:1]

    assert message.startswith("run.toml:7:11")


def test_an_integer_beyond_floats() -> None:
    """The converter refuses what makes Python raise an OverflowError."""
    with pytest.raises(ConfigError, match="beyond the range"):
        fit(10**400, float)


def fit(value: object, annotation: Any, *limits: Any, secrets: bool = False) -> Any:
    """Convert a plain value to a type."""
    return Converter(secrets=secrets).fit(Entry(Node.from_python(value)), Slot(annotation, limits=limits))


SCALARS = {
    bool: {"boolean"},
    int: {"integer"},
    float: {"integer", "float"},
    str: {"string"},
    Path: {"string"},
    dt.date: {"date"},
    dt.datetime: {"date and time"},
    dt.time: {"time"},
    type(None): {"none"},
}


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_characters="\0")),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(value=values, annotation=st.sampled_from(list(SCALARS)))
def test_no_type_becomes_another(value: object, annotation: Any) -> None:
    """A value is accepted exactly if its TOML type is, an integer also for a float."""
    try:
        fitted = fit(value, annotation)
    except ConfigError as error:
        assert toml_type(value) not in SCALARS[annotation]
        (problem,) = error.problems
        assert problem.path == ""
        assert problem.message.startswith(f"expected {describe(annotation)}, got ")
    else:
        assert toml_type(value) in SCALARS[annotation]
        assert isinstance(fitted, annotation)
        expected = annotation(value) if annotation in {Path, float} else value  # an integer beyond 2**53 is rounded
        assert fitted == expected or value != value  # noqa: PLR0124 (nan)


@given(value=values)
def test_any_takes_every_value(value: object) -> None:
    """Without a type, a value arrives as TOML has it, in plain tables."""
    fitted = fit(value, Any)

    assert repr(fitted) == repr(value)
    assert type(fitted) is type(value)


@pytest.mark.parametrize("annotation", [list, list[Any], tuple, dict, dict[str, Any], Any])
def test_untyped_elements_are_plain(annotation: Any) -> None:
    """If only the outer type is known, factories get plain tables and the very objects that were passed."""
    inside = {"a": [{"b": 1}], "c": Recorder()}
    value = {"x": inside} if annotation in {dict, dict[str, Any]} else [inside]

    fitted = fit(value, annotation, secrets=True)

    (found,) = fitted.values() if isinstance(fitted, dict) else fitted
    assert found == inside
    assert (type(found), type(found["a"][0]), type(found["c"])) == (dict, dict, Recorder)


def test_types_that_toml_cannot_express() -> None:
    """A type without notation accepts nothing, and a value for it is refused."""
    assert accepts(Recorder) == frozenset()
    with pytest.raises(ConfigError, match="takes a Recorder object, which a run file cannot give"):
        fit(1, Recorder)


@pytest.mark.parametrize("limit", [Between(0, 1), AtLeast(0), MoreThan(0)])
def test_limits_in_arrays(limit: Any) -> None:
    """A limit on an array applies to each of its numbers."""
    assert fit([1, 0.5], list[float], limit) == [1.0, 0.5]
    with pytest.raises(ConfigError, match=r"got -1"):
        fit([1, -1], list[float], limit)
    with pytest.raises(ConfigError):
        fit([1, -1], Annotated[list[int], limit])
