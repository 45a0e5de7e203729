"""Numbers, times and sparklines as text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.record.formatting import format_clock, format_duration, format_metric, format_number, sparkline


@pytest.mark.parametrize(
    "value,expected",
    [
        (0.0523, "0.0523"),
        (12345.678, "12,345.7"),
        (3.2e-6, "3.2e-06"),
        (5.0, "5"),
        (math.nan, "nan"),
        (2.5e9, "2.5e+09"),
    ],
)
def test_numbers_have_four_digits(value, expected):
    """A number has at most four significant digits, and whole numbers no decimals."""
    assert format_number(value) == expected


@pytest.mark.parametrize(
    "seconds,duration,clock",
    [
        (0.0042, "4.2 ms", "0:00"),
        (0.42, "0.4 s", "0:00"),
        (9.96, "10.0 s", "0:10"),
        (34.2, "34 s", "0:34"),
        (59.6, "1 min 00 s", "1:00"),
        (3725, "1 h 02 min", "1:02:05"),
        (math.inf, "?", "-:--"),
    ],
)
def test_durations_have_suitable_units(seconds, duration, clock):
    """The unit follows the duration, from milliseconds to hours; infinity is a question mark."""
    assert (format_duration(seconds), format_clock(seconds)) == (duration, clock)


@pytest.mark.parametrize(
    "name,value,expected",
    [
        ("val_accuracy", 0.981, "98.10 %"),
        ("test_f1", 1.0, "100.00 %"),
        ("balanced_accuracy", 0.5, "50.00 %"),
        ("accuracy", 97.0, "97"),
        ("val_loss", 0.5, "0.5"),
    ],
)
def test_fractions_are_percentages(name, value, expected):
    """A metric is a percentage if its name says it is a fraction and its value is between 0 and 1."""
    assert format_metric(name, value) == expected


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=200), st.integers(1, 40))
def test_a_sparkline_has_at_most_the_given_width(values, width):
    """This holds for any values, including NaN and infinity."""
    line = sparkline(values, width)

    assert len(line) == min(len(values), width)
    assert set(line) <= set("▁▂▃▄▅▆▇█ ")


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=40, unique=True))
def test_a_sparkline_shows_the_extremes(values):
    """The largest value has the highest bar, and the smallest the lowest."""
    line = sparkline(values, 40)

    assert line[values.index(max(values))] == "█"
    assert line[values.index(min(values))] == "▁"
