"""Tests of option tables drawn from a signature."""

from __future__ import annotations

import pytest
from hypothesis import find, given
from hypothesis.errors import NoSuchExample

from dovetail.spec.plugins import Plugins
from dovetail.testkit.options import longest_option, tables
from dovetail.testkit.subject import Subject
from planted import plugin

PLUGINS = Plugins.discover()
PLUGINS.register(plugin, distribution="planted")
SIGNATURE = Subject.find("planted.every_option", plugins=PLUGINS).signature
TABLES = tables(SIGNATURE, {"text": "from the example"}, PLUGINS)


@given(table=TABLES)
def test_drawn_values_are_within_limits(table):
    """Drawn values keep the limits and choices of their annotations; a drawn table keeps the example's keys."""
    assert -2 <= table.get("bounded", 0) <= 2
    assert table.get("positive", 1.0) > 0
    assert table.get("mode", "mean") in {"mean", "sum", 3}
    assert table.get("colour", "red") in {"red", "blue"}
    assert all(0 <= ratio <= 1 for ratio in table.get("ratios") or ())
    assert table.get("inner", {"size": 1})["size"] >= 1
    assert "text" in table


def test_options_that_toml_cannot_express_are_never_drawn():
    """A tensor has no TOML value, so its option keeps the default."""
    with pytest.raises(NoSuchExample):
        find(TABLES, lambda table: "tensor" in table)


@pytest.mark.parametrize("name", ["flag", "either", "pair", "inner", "loss", "schedules", "moment"])
def test_every_kind_of_option_is_drawn(name):
    """Options of every form that TOML can express appear in some table."""
    assert name in find(TABLES, lambda table: name in table)


def test_the_longest_option_can_be_misspelt():
    """The kit misspells the longest option; options of four letters or fewer are too short."""
    assert longest_option(SIGNATURE) == max(SIGNATURE.parameters, key=len)
    assert longest_option(Subject.find("planted.sound", plugins=PLUGINS).signature) is None


def test_a_component_without_options_gets_its_example():
    """The table of a component without options is its example."""
    signature = Subject.find("planted.sound", plugins=PLUGINS).signature

    @given(table=tables(signature, {"seed": 3}, PLUGINS))
    def is_the_example(table):
        assert table == {"seed": 3}

    is_the_example()
