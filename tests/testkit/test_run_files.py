"""Tests of the run files that the kit makes for one component."""

from __future__ import annotations

import pytest

from dovetail.config.diagnostics import ConfigError
from dovetail.spec.kinds import KINDS
from dovetail.spec.plugins import Plugins
from dovetail.testkit.registry import NotApplicable
from dovetail.testkit.run_files import PLACES, run_file, structure_part, tiny_run
from dovetail.testkit.subject import Subject


def test_every_kind_with_a_table_has_a_place():
    """Only profiles and commands have no table in a run file."""
    assert set(KINDS) - set(PLACES) == {"profile", "command"}


def test_a_run_file_contains_the_table_and_the_required_ones():
    """The component's table is at its kind's place, beside data, model and loss."""
    tables = run_file("metric", {"type": "dovetail:accuracy"})

    assert tables["metrics"] == {"checked": {"type": "dovetail:accuracy"}}
    assert {"data", "model", "loss"} < set(tables)


def test_a_part_is_the_checked_table():
    """The part has the component and its options; an invalid option is an error."""
    plugins = Plugins.discover()

    part = structure_part("storage", {"type": "dovetail:local", "path": "store"}, plugins)

    assert part.registered.name == "local"
    with pytest.raises(ConfigError, match="pathh"):
        structure_part("storage", {"type": "dovetail:local", "pathh": "store"}, plugins)


def test_a_component_that_cannot_be_built_takes_no_part_in_a_tiny_run():
    """The check does not apply, and its reason is the config's error."""
    subject = Subject.find("early_stopping", kind="callback", example={"no_such_option": 1})

    with subject.folder(), pytest.raises(NotApplicable, match="no_such_option"):
        tiny_run(subject)
