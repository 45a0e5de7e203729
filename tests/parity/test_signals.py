"""Parity of dovetail-signals with the documented trainers and augmentations: tests/parity/signals.toml."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import tomli

from dovetail.kernel.component import load_target
from dovetail.spec.plugins import Plugins
from dovetail_signals.trainers.progressive import SCHEDULE, ProgressiveResizingTrainer

TABLES = tomli.loads((Path(__file__).parent / "signals.toml").read_text())
ENTRIES = [entry for table in TABLES.values() for entry in table]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['id']}-{entry['name']}")
def test_a_documented_name_takes_what_is_documented(entry):
    """It has every documented parameter, in the documented order and with the documented default."""
    found = inspect.signature(load_target(entry["ours"])).parameters
    wanted = {name: None if value == "@none" else value for name, value in entry.get("defaults", {}).items()}
    defaults = {name: found[name].default for name in wanted}

    assert list(found)[: len(entry["takes"])] == entry["takes"]
    assert {
        name: list(default) if isinstance(default, tuple) else default for name, default in defaults.items()
    } == wanted


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if "component" in entry], ids=lambda entry: f"{entry['id']}-{entry['name']}"
)
def test_a_run_file_can_name_it(entry):
    """The part is registered under the name in the table."""
    kind, _, name = entry["component"].partition(":")

    assert Plugins.discover().find(kind, name).distribution == "dovetail-signals"


def test_the_documented_schedule():
    """The default schedule of progressive resizing is the documented one."""
    assert SCHEDULE == ((25_600, 20), (51_200, 15), (76_800, 10), (102_400, 5))
    assert inspect.signature(ProgressiveResizingTrainer).parameters["schedule"].default == SCHEDULE
