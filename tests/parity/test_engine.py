"""The documents' loops, trainers, hooks and callbacks against ours: tests/parity/engine.toml."""

from __future__ import annotations

import importlib
import inspect
from operator import attrgetter
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli

from dovetail.config.schema import RunConfig
from dovetail.kernel.signature import read_signature
from dovetail.spec.plugins import Plugins
from dovetail.train.hooks import Hooks
from dovetail.train.plain_hooks import plain_hooks

TABLE: dict[str, Any] = tomli.loads((Path(__file__).parent / "engine.toml").read_text())


def named(table):
    """Parametrise over the entries of a table."""
    return pytest.mark.parametrize("entry", TABLE[table], ids=[f"{one['id']}-{one['name']}" for one in TABLE[table]])


def expected(defaults):
    """Return the documented defaults; the table says None in a word."""
    return {name: None if default == "@none" else default for name, default in defaults.items()}


@named("python")
def test_a_documented_name_takes_what_is_documented(entry):
    """Every documented parameter is there, in the documented order, with the documented default."""
    module, _, name = entry["ours"].partition(":")
    found = attrgetter(name)(importlib.import_module(module))
    parameters = inspect.signature(found).parameters
    taken = [one for one in parameters if one != "self"]

    assert taken[: len(entry["takes"])] == entry["takes"]
    for parameter, default in expected(entry.get("defaults", {})).items():
        assert parameters[parameter].default == default


@named("setting")
def test_a_documented_parameter_is_a_setting(entry):
    """It is in a section of the run file, with the documented default where the table gives it."""
    section, _, name = entry["ours"].partition(".")
    types = inspect.get_annotations(RunConfig, eval_str=True)

    assert section in types
    if name:
        assert name in attrs.fields_dict(types[section])
    if "default" in entry:
        assert getattr(types[section](), name) == entry["default"]
    else:
        assert "difference" in entry or "fit" in entry["name"]


@named("callback")
def test_a_documented_callback_is_a_part(entry):
    """It has the documented options, in their order, with the documented defaults."""
    kind, _, name = entry["ours"].partition(":")
    parameters = read_signature(Plugins.discover(blocked=True).find(kind, name)).parameters

    assert list(parameters)[: len(entry["takes"])] == entry["takes"]
    for parameter, default in expected(entry.get("defaults", {})).items():
        assert parameters[parameter].default == default


@named("hook")
def test_a_documented_hook_is_called(entry):
    """A plain object with a method of that name implements our hook, and no other."""
    plain = type("Plain", (), {entry["name"]: lambda self, *arguments: None})()
    hooks = Hooks([("callbacks.plain", plain_hooks(plain))])

    assert getattr(hooks, entry["ours"])
    others = {one["ours"] for one in TABLE["hook"]} - {entry["ours"]}
    assert not any(getattr(hooks, one) for one in others)
