"""The documents' classes and functions for parts against ours: tests/parity/parts.toml."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import tomli

from dovetail.kernel.component import load_target
from dovetail.spec.plugins import Plugins

TABLE: dict[str, Any] = tomli.loads((Path(__file__).parent / "parts.toml").read_text())
PARTS = TABLE["part"]


def named(entries):
    """Parametrise over entries of the table."""
    return pytest.mark.parametrize("entry", entries, ids=[f"{one['id']}-{one['name']}" for one in entries])


@named(PARTS)
def test_a_documented_name_takes_what_is_documented(entry):
    """Every documented parameter is there in the documented order, with the documented default."""
    parameters = inspect.signature(load_target(entry["ours"])).parameters
    taken = [name for name, one in parameters.items() if name != "self" and one.kind is not one.VAR_KEYWORD]
    defaults = {name: None if default == "@none" else default for name, default in entry.get("defaults", {}).items()}

    assert taken[: len(entry["takes"])] == entry["takes"]
    assert {name: _plain(parameters[name].default) for name in defaults} == defaults


def _plain(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default


@named([one for one in PARTS if "component" in one])
def test_a_run_file_can_name_it(entry):
    """The part is registered under the name that the table gives."""
    kind, _, name = entry["component"].partition(":")
    distribution = entry.get("distribution", "dovetail")
    plugins = Plugins.discover(blocked=True if distribution == "dovetail" else ())

    assert plugins.find(kind, name).distribution == distribution
