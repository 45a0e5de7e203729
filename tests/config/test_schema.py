"""Tests of dovetail.config.schema, .settings and .values: sections, defaults, durations and sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config import schema
from dovetail.config.fields import limit_problem, seconds, size_in_bytes
from dovetail.config.schema import (
    BudgetSection,
    CheckpointSection,
    Every,
    HardwareSection,
    LoaderSection,
    RunSection,
    TrainingSection,
    sections,
)
from dovetail.spec.limits import AtLeast, Between

OWN = [one for one in vars(schema).values() if isinstance(one, type) and one.__name__.endswith("Section")]


def test_the_sections_of_a_run_file() -> None:
    """The sections, in the order in which they are written."""
    assert [one.name for one in sections()] == [
        "run",
        "data",
        "transforms",
        "loader",
        "collator",
        "model",
        "loss",
        "optimizer",
        "scheduler",
        "training",
        "phases",
        "trainer",
        "metrics",
        "callbacks",
        "trackers",
        "checkpoint",
        "hardware",
        "paths",
        "logging",
        "report",
        "budget",
        "plugins",
    ]


@pytest.mark.parametrize("cls", [*OWN, Every])
def test_every_setting_is_documented(cls: Any) -> None:
    """Each field says in its metadata what it is for; from there it reaches the reference, the schema, the files."""
    for one in attrs.fields(cls):
        assert one.metadata["help"], one.name
        assert one.default is not attrs.NOTHING, one.name


@pytest.mark.parametrize("section", sections(), ids=lambda one: one.name)
def test_every_section_is_documented(section: Any) -> None:
    """Each section has a sentence about it."""
    assert section.metadata["help"].endswith(".")


def test_defaults() -> None:
    """The documented defaults."""
    assert RunSection() == RunSection("run", None, 42, False, "", [])
    assert TrainingSection().max_epochs == 10
    assert TrainingSection().max_grad_norm == 1.0
    assert TrainingSection().validate_every == Every(epochs=1)
    assert (CheckpointSection().keep_best, CheckpointSection().keep_last) == (3, 5)
    assert LoaderSection().batch_size == 32
    assert HardwareSection().device == "auto"


def test_steps_alone_are_a_length() -> None:
    """Whoever asks for steps does not get the default epochs on top."""
    assert TrainingSection(max_steps=5000).max_epochs is None
    assert TrainingSection(max_steps=5000, max_epochs=2).max_epochs == 2
    with pytest.raises(ValueError, match="needs max_epochs or max_steps"):
        TrainingSection(max_epochs=None)


def test_best_only_means_one() -> None:
    """best_only is one best and one last checkpoint; anything else beside it is a contradiction."""
    assert (CheckpointSection(best_only=True).keep_best, CheckpointSection(best_only=True).keep_last) == (1, 1)
    with pytest.raises(ValueError, match="best_only = true keeps 1, which contradicts 3"):
        CheckpointSection(best_only=True, keep_best=3)


@pytest.mark.parametrize("name", ["a", "A-b_c.1", "x" * 100, "-"])
def test_names_of_runs(name: str) -> None:
    """A name is safe as the name of a folder."""
    assert RunSection(name=name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "../x", "a b", "é", "x" * 101, "a\0", "a\n"])
def test_names_that_no_run_has(name: str) -> None:
    """What could leave the folder, hide in it or break a path is refused."""
    with pytest.raises(ValueError, match="must be 1 to 100 of the characters"):
        RunSection(name=name)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu:0"])
def test_devices(device: str) -> None:
    """Devices are written as torch writes them."""
    assert HardwareSection(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda1", "cuda:", "CPU", ""])
def test_what_is_no_device(device: str) -> None:
    """A device that torch cannot mean is refused before torch is imported."""
    with pytest.raises(ValueError, match="is not a device such as"):
        HardwareSection(device=device)


def test_limits_hold_for_python_too() -> None:
    """A section made directly is checked like one from a file."""
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        LoaderSection(batch_size=0)
    assert limit_problem((AtLeast(0), Between(0, 1)), None) is None
    assert limit_problem((AtLeast(0), Between(0, 1)), [0.5, 2]) == "must be between 0 and 1, got 2"


def test_budgets_in_numbers() -> None:
    """Durations and sizes are text in the file and numbers for the code."""
    budget = BudgetSection(wall_clock="1h30m", memory="2GB", gpu_memory="1GiB")

    assert (budget.wall_clock_seconds, budget.memory_bytes, budget.gpu_memory_bytes) == (5400, 2 * 10**9, 2**30)
    none = BudgetSection()
    assert none.wall_clock_seconds is none.memory_bytes is none.gpu_memory_bytes is None


@pytest.mark.parametrize(
    "text, expected", [("9h", 32400), ("30m", 1800), ("45s", 45), ("1d2h3m4s", 93784), ("1.5h", 5400), ("0h1s", 1)]
)
def test_durations(text: str, expected: float) -> None:
    """Days, hours, minutes and seconds, in this order."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "9", "h", "9 h", "1m1h", "-1h", "0s", "1e3s", "9H", "1h" * 30])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused with examples."""
    with pytest.raises(ValueError, match="expected a duration such as"):
        seconds(text)


@pytest.mark.parametrize(
    "text, expected",
    [("16GB", 16 * 10**9), ("16 gb", 16 * 10**9), ("1.5KiB", 1536), ("512MiB", 2**29), ("1TB", 10**12), ("7B", 7)],
)
def test_sizes(text: str, expected: int) -> None:
    """Decimal and binary units."""
    assert size_in_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "16", "GB", "0GB", "-1GB", "1PB", "16G", "9" * 60 + "B"])
def test_what_is_no_size(text: str) -> None:
    """Anything else is refused with examples."""
    with pytest.raises(ValueError, match="expected a size such as"):
        size_in_bytes(text)


@given(st.integers(1, 400), st.sampled_from("dhms"))
def test_a_duration_is_its_number_of_units(number: int, unit: str) -> None:
    """One unit alone is that many of it."""
    assert seconds(f"{number}{unit}") == number * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit]


def test_the_config_imports_no_torch() -> None:
    """Nothing under dovetail.config imports torch, or numpy, by itself."""
    modules = [f"dovetail.config.{path.stem}" for path in Path(schema.__file__).parent.glob("[!_]*.py")]
    code = f"import {', '.join(modules)}, sys; print({{'torch', 'numpy'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
