"""Building: one call of a factory with keyword arguments, or a message at the place in the config."""

from __future__ import annotations

import os

import attrs
import pytest

from dovetail.kernel.build import BuildError, Part, build
from dovetail.kernel.component import Component, PluginError
from dovetail.kernel.plugins import Registered
from dovetail.kernel.secret import Env
from dovetail.spec.kinds import KINDS
from dovetail.spec.protocols import Loss


def part(name, kind="loss", path="loss", options=None, stand_in=None):
    """Return the checked table of something in this module."""
    component = Component(name.rpartition(":")[2], name if ":" in name else f"{__name__}:{name}", options=stand_in)
    return Part(Registered(component, kind, "dist", "1", "e", KINDS), kind, path, options or {})


@attrs.define
class Band:
    """A nested table that may hold a part and a secret."""

    low: float
    inner: Loss | None = None
    _key: str = ""


def record(
    num_classes: int,
    inner: Loss | None = None,
    parts: list[Loss] = (),
    bands: dict[str, Band] | None = None,
    key: str = "",
):
    """Give back what it was built with."""
    return {"num_classes": num_classes, "inner": inner, "parts": parts, "bands": bands, "key": key}


def leaf(value: int = 1):
    """Give back a value."""
    return ("leaf", value)


def test_provided_values_fill_what_the_run_file_leaves_open():
    """What the run file sets wins; what it leaves open comes from the run."""
    assert build(part("record"), {"num_classes": 10, "class_counts": [1]})["num_classes"] == 10
    assert build(part("record", options={"num_classes": 3}), {"num_classes": 10})["num_classes"] == 3


def test_nested_parts_are_built_to_any_depth():
    """Parts inside lists, tables and attrs instances are built by the same code."""
    nested = part("leaf", path="loss.inner", options={"value": 7})
    options = {"inner": nested, "parts": [nested, nested], "bands": {"a": Band(1.0, nested), "b": Band(2.0)}}
    built = build(part("record", options=options), {"num_classes": 2})

    assert built["inner"] == ("leaf", 7)
    assert built["parts"] == [("leaf", 7)] * 2
    assert {"a": Band(1.0, ("leaf", 7)), "b": Band(2.0)} == built["bands"]
    assert nested is options["bands"]["a"].inner, "the checked table stays as it was"


def test_secrets_are_read_when_built(monkeypatch):
    """A secret comes from the environment at the last moment; one that is not set is reported at its part."""
    monkeypatch.setenv("DOVETAIL_TEST_KEY", "s3cret")
    options = {
        "num_classes": 1,
        "key": Env("DOVETAIL_TEST_KEY"),
        "bands": {"a": Band(1.0, None, Env("DOVETAIL_TEST_KEY"))},
    }
    built = build(part("record", options=options), {})

    assert "s3cret" == built["key"] == built["bands"]["a"]._key
    assert "s3cret" not in repr(options)
    monkeypatch.delenv("DOVETAIL_TEST_KEY")
    assert "DOVETAIL_TEST_KEY" not in os.environ
    with pytest.raises(BuildError, match=r"^loss: the environment variable DOVETAIL_TEST_KEY is not set"):
        build(part("record", options=options), {})


def test_live_objects_pass_through():
    """An object passed from Python is used as it is."""
    thing = object()
    live = Part(None, "model", "model", live=thing)

    assert thing is build(live, {})
    assert live.name == "object"
    assert part("leaf").name == "leaf"


def test_what_the_run_cannot_provide_is_named():
    """A missing provided value says that the run file can set it; a plain missing one says that it is required."""
    with pytest.raises(
        BuildError, match=r"^loss: record: 'num_classes': the run cannot provide it; set it in the run file"
    ):
        build(part("record"), {})
    with pytest.raises(BuildError, match=r"'num_classes': required, but not set"):
        build(part("record", kind="callback"), {})


def refuse(value: int = 0):
    """Refuse every value."""
    raise ValueError("value must be odd" if not value else "")


def test_a_factory_that_raises_is_reported_at_its_table():
    """Whatever a factory raises comes out with the part's path and the factory's own words."""
    with pytest.raises(BuildError, match=r"^callbacks\.a: callback 'refuse' refused its options: value must be odd"):
        build(part("refuse", kind="callback", path="callbacks.a"), {})
    with pytest.raises(BuildError, match="refused its options: ValueError"):
        build(part("refuse", options={"value": 1}), {})
    with pytest.raises(BuildError, match=r"^loss\.inner: loss 'refuse' refused"):
        build(part("record", options={"inner": part("refuse", path="loss.inner"), "num_classes": 1}), {})
    with pytest.raises(PluginError, match="cannot be imported"):
        build(part("no_such_package_here:x"), {})


@attrs.define
class Options:
    """Stands in for a signature."""

    low: float
    high: float = 2.0


def whole(options: Options, num_classes: int):
    """Take the options object."""
    return options, num_classes


def spread(**kwargs):
    """Take the options as keywords."""
    return kwargs


def test_options_classes_reach_the_factory():
    """An options class is passed whole where a parameter asks for it, and as keywords otherwise."""
    as_object = part("whole", options={"low": 1.0}, stand_in=Options)
    as_keywords = part("spread", options={"low": 1.0}, stand_in=Options)

    assert (Options(1.0), 4) == build(as_object, {"num_classes": 4})
    assert build(as_keywords, {}) == {"low": 1.0, "high": 2.0}
