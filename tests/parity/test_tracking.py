"""The documents' names for recording runs against ours: tests/parity/tracking.toml."""

from __future__ import annotations

import inspect
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import tomli

import dovetail
from dovetail.config.schema import RunConfig
from dovetail.kernel.plugins import UnknownComponentError
from dovetail.kernel.signature import read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins

TABLE: dict[str, Any] = tomli.loads((Path(__file__).parent / "tracking.toml").read_text())


def named(table):
    """Parametrise over the entries of a table."""
    return pytest.mark.parametrize("entry", TABLE[table], ids=[f"{one['id']}-{one['name']}" for one in TABLE[table]])


@named("python")
def test_a_documented_name_of_python_takes_what_is_documented(entry):
    """Every documented parameter is there, in the documented order."""
    found = attrgetter(entry["ours"].removeprefix("dovetail."))(dovetail)
    taken = [one for one in inspect.signature(found).parameters if one != "self"]

    assert taken[: len(entry["takes"])] == entry["takes"]


@named("tracker")
def test_a_documented_logger_is_a_tracker(entry):
    """It has the documented options, with the documented defaults, and its own cadence."""
    try:
        found = Plugins.discover().find("tracker", entry["ours"])
    except UnknownComponentError:
        if entry["ours"].startswith("trackers."):
            pytest.skip("dovetail-trackers is not installed")
        raise
    parameters = read_signature(found).parameters

    assert set(entry["takes"]) <= set(parameters)
    for name, default in entry.get("defaults", {}).items():
        assert parameters[name].default == (None if default == "@none" else default)
    assert "every" in KINDS["tracker"].reserved


@named("setting")
def test_a_documented_setting_is_ours(entry):
    """It is in a section of the run file."""
    section, _, name = entry["ours"].partition(".")

    assert hasattr(inspect.get_annotations(RunConfig, eval_str=True)[section](), name)
