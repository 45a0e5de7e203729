"""Component records: what they accept, and how they load what they name."""

from __future__ import annotations

import sys

import attrs
import pytest

from dovetail.kernel.component import Broken, Component, load_target


@pytest.mark.parametrize("name", ["focal", "signals.wdcnn", "a-b_c.1", "_x"])
def test_usable_names(name):
    """Names are letters, digits, dashes, underscores and dots."""
    assert name == Component(name, "pkg:attr").name


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a:b", "a b", "a/b", "ä", "a\n"])
def test_refused_names(name):
    """A name that could not be written in a run file, or would look like ``distribution:name``, is refused."""
    with pytest.raises(ValueError, match="component name"):
        Component(name, "pkg:attr")


@pytest.mark.parametrize("target", ["pkg", "pkg:", ":attr", "pkg.attr", "pkg:a-b", "pkg:1", None])
def test_refused_targets(target):
    """A target without ``module:attribute`` is refused when it is written, not when a run needs it."""
    with pytest.raises(ValueError, match="module:attribute"):
        Component("x", target)


def test_record_is_frozen_and_traits_are_a_set():
    """A component is a value: nobody changes it after registration."""
    component = Component("x", "pkg:attr", traits=["additive", "additive"])

    assert frozenset({"additive"}) == component.traits
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        component.name = "y"


def test_loading_imports_only_on_demand():
    """The record names its target; only ``load`` imports it."""
    sys.modules.pop("this", None)
    component = Component("path", "pathlib:Path.cwd")

    assert callable(component.load())
    with pytest.raises(AttributeError):
        load_target("pathlib:Nothing")
    with pytest.raises(ImportError):
        load_target("no_such_module_here:x")


def test_options_class_by_name_or_by_itself():
    """An options class may be given as the class or as ``module:attribute`` of it."""
    assert Component in {
        Component("x", "a:b", options=Component).load_options(),
        Component("x", "a:b", options="dovetail.kernel.component:Component").load_options(),
    }
    assert Component("x", "a:b").load_options() is None


def test_broken_says_who_and_why_in_one_line():
    """What is set aside names the distribution and the first line of the error."""
    assert str(Broken("d", "p", ValueError("one\ntwo"))) == "plugin 'p' of d failed to load (ValueError: one)"
    assert str(Broken("d", "p", SystemExit())) == "plugin 'p' of d failed to load (SystemExit)"
