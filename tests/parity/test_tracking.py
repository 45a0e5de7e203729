"""Trackers and other records of runs have the documents' names, as listed in tracking.toml."""

from __future__ import annotations

import inspect
from operator import attrgetter

import pytest

import dovetail
from dovetail.config.schema import RunConfig
from dovetail.kernel.plugins import UnknownComponentError
from dovetail.kernel.signature import read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins
from parity_tables import assert_signature, documented_defaults, each, load_table

TABLE = load_table("tracking")


@each(TABLE["python"])
def test_documented_signature(entry):
    """Every documented class and method has the documented parameters and defaults."""
    assert_signature(attrgetter(entry["ours"].removeprefix("dovetail."))(dovetail), entry)


@each(TABLE["tracker"])
def test_documented_tracker(entry):
    """Every documented logger is a tracker with the documented options and defaults, and a cadence of its own."""
    try:
        tracker = Plugins.discover().find("tracker", entry["ours"])
    except UnknownComponentError:
        if entry["ours"].startswith("trackers."):
            pytest.skip("dovetail-trackers is not installed")
        raise
    parameters = read_signature(tracker).parameters

    assert set(entry["takes"]) <= set(parameters)
    for name, default in documented_defaults(entry).items():
        assert parameters[name].default == default
    assert "every" in KINDS["tracker"].reserved


@each(TABLE["setting"])
def test_documented_setting(entry):
    """Every documented setting is in a section of the run file."""
    section, _, name = entry["ours"].partition(".")

    assert hasattr(inspect.get_annotations(RunConfig, eval_str=True)[section](), name)
