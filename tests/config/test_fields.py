"""Tests of dovetail.config.fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.fields import limit_problem, seconds, size_in_bytes
from dovetail.config.schema import (
    HardwareSection,
    LoaderSection,
    RunSection,
)
from dovetail.spec.limits import AtLeast, Between


@pytest.mark.parametrize("name", ["a", "A-b_c.1", "x" * 100, "-"])
def test_names_of_runs(name: str) -> None:
    """A name is safe as the name of a folder."""
    assert RunSection(name=name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "../x", "a b", "é", "x" * 101, "a\0", "a\n"])
def test_names_that_no_run_has(name: str) -> None:
    """A name that could leave the folder, hide in it or break a path is refused."""
    with pytest.raises(ValueError, match="must be 1 to 100 of the characters"):
        RunSection(name=name)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu:0"])
def test_devices(device: str) -> None:
    """Devices are written as torch writes them."""
    assert HardwareSection(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda1", "cuda:", "CPU", ""])
def test_what_is_no_device(device: str) -> None:
    """A device that torch cannot have is refused before torch is imported."""
    with pytest.raises(ValueError, match="is not a device such as"):
        HardwareSection(device=device)


def test_limits_hold_for_python_too() -> None:
    """A section made in Python is validated like one from a file."""
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        LoaderSection(batch_size=0)
    assert limit_problem((AtLeast(0), Between(0, 1)), None) is None
    assert limit_problem((AtLeast(0), Between(0, 1)), [0.5, 2]) == "must be between 0 and 1, got 2"


@pytest.mark.parametrize(
    "text, expected", [("9h", 32400), ("30m", 1800), ("45s", 45), ("1d2h3m4s", 93784), ("1.5h", 5400), ("0h1s", 1)]
)
def test_durations(text: str, expected: float) -> None:
    """A duration has days, hours, minutes and seconds, in this order."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "9", "h", "9 h", "1m1h", "-1h", "0s", "1e3s", "9H", "1h" * 30])
def test_what_is_no_duration(text: str) -> None:
    """Other texts are refused with examples."""
    with pytest.raises(ValueError, match="expected a duration such as"):
        seconds(text)


@pytest.mark.parametrize(
    "text, expected",
    [("16GB", 16 * 10**9), ("16 gb", 16 * 10**9), ("1.5KiB", 1536), ("512MiB", 2**29), ("1TB", 10**12), ("7B", 7)],
)
def test_sizes(text: str, expected: int) -> None:
    """Sizes have decimal and binary units."""
    assert size_in_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "16", "GB", "0GB", "-1GB", "1PB", "16G", "9" * 60 + "B"])
def test_what_is_no_size(text: str) -> None:
    """Other texts are refused with examples."""
    with pytest.raises(ValueError, match="expected a size such as"):
        size_in_bytes(text)


@given(st.integers(1, 400), st.sampled_from("dhms"))
def test_a_duration_is_its_number_of_units(number: int, unit: str) -> None:
    """A duration of one unit is that many of it."""
    assert seconds(f"{number}{unit}") == number * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit]
