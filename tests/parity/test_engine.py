"""Our loops, trainers, hooks and callbacks have the documents' names, as listed in engine.toml."""

from __future__ import annotations

import importlib
import inspect
from operator import attrgetter

import attrs

from dovetail.config.schema import RunConfig
from dovetail.kernel.signature import read_signature
from dovetail.spec.plugins import Plugins
from dovetail.train.hooks import Hooks
from dovetail.train.plain_hooks import plain_hooks
from parity_tables import assert_signature, documented_defaults, each, load_table

TABLE = load_table("engine")


@each(TABLE["python"])
def test_documented_signature(entry):
    """Every documented class and function has the documented parameters and defaults."""
    module, _, name = entry["ours"].partition(":")
    assert_signature(attrgetter(name)(importlib.import_module(module)), entry)


@each(TABLE["setting"])
def test_documented_setting(entry):
    """Every documented trainer parameter is a setting of the run file, with the documented default if there is one."""
    section, _, name = entry["ours"].partition(".")
    types = inspect.get_annotations(RunConfig, eval_str=True)

    assert section in types
    if name:
        assert name in attrs.fields_dict(types[section])
    if "default" in entry:
        assert getattr(types[section](), name) == entry["default"]
    else:
        assert "difference" in entry or "fit" in entry["name"]


@each(TABLE["callback"])
def test_documented_callback(entry):
    """Every documented callback is a part with the documented options and defaults."""
    kind, _, name = entry["ours"].partition(":")
    parameters = read_signature(Plugins.discover(blocked=True).find(kind, name)).parameters

    assert list(parameters)[: len(entry["takes"])] == entry["takes"]
    for parameter, default in documented_defaults(entry).items():
        assert parameters[parameter].default == default


@each(TABLE["hook"])
def test_documented_hook(entry):
    """A method with a documented hook name implements our hook, and no other."""
    plain = type("Plain", (), {entry["name"]: lambda self, *arguments: None})()
    hooks = Hooks([("callbacks.plain", plain_hooks(plain))])

    assert getattr(hooks, entry["ours"])
    others = {hook["ours"] for hook in TABLE["hook"]} - {entry["ours"]}
    assert not any(getattr(hooks, name) for name in others)
