"""Tests of dovetail.config.schema: sections, defaults and rules across settings."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from dovetail.config import schema
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

OWN = [item for item in vars(schema).values() if isinstance(item, type) and item.__name__.endswith("Section")]


def test_the_sections_of_a_run_file() -> None:
    """The sections have the order in which they are written."""
    assert [section.name for section in sections()] == [
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
    """Each field has its help in its metadata, for the reference, the JSON schema and the default files."""
    for field in attrs.fields(cls):
        assert field.metadata["help"], field.name
        assert field.default is not attrs.NOTHING, field.name


@pytest.mark.parametrize("section", sections(), ids=lambda item: item.name)
def test_every_section_is_documented(section: Any) -> None:
    """Each section has a sentence about it."""
    assert section.metadata["help"].endswith(".")


def test_defaults() -> None:
    """The defaults are the documented ones."""
    assert RunSection() == RunSection("run", None, 42, False, "", [])
    assert TrainingSection().max_epochs == 10
    assert TrainingSection().max_grad_norm == 1.0
    assert TrainingSection().validate_every == Every(epochs=1)
    assert (CheckpointSection().keep_best, CheckpointSection().keep_last) == (3, 5)
    assert LoaderSection().batch_size == 32
    assert HardwareSection().device == "auto"


def test_steps_alone_are_a_length() -> None:
    """A run that sets steps has no default number of epochs."""
    assert TrainingSection(max_steps=5000).max_epochs is None
    assert TrainingSection(max_steps=5000, max_epochs=2).max_epochs == 2
    with pytest.raises(ValueError, match="needs max_epochs or max_steps"):
        TrainingSection(max_epochs=None)


def test_best_only_means_one() -> None:
    """best_only keeps one best and one last checkpoint, and contradicts other numbers."""
    assert (CheckpointSection(best_only=True).keep_best, CheckpointSection(best_only=True).keep_last) == (1, 1)
    with pytest.raises(ValueError, match="best_only = true keeps 1, which contradicts 3"):
        CheckpointSection(best_only=True, keep_best=3)


def test_budgets_in_numbers() -> None:
    """Durations and sizes are text in the file and numbers in Python."""
    budget = BudgetSection(wall_clock="1h30m", memory="2GB", gpu_memory="1GiB")

    assert (budget.wall_clock_seconds, budget.memory_bytes, budget.gpu_memory_bytes) == (5400, 2 * 10**9, 2**30)
    none = BudgetSection()
    assert none.wall_clock_seconds is none.memory_bytes is none.gpu_memory_bytes is None
