"""Our parts have the documents' names and defaults, as listed in parts.toml."""

from __future__ import annotations

from dovetail.kernel.component import load_target
from dovetail.spec.plugins import Plugins
from parity_tables import assert_signature, each, load_table

PARTS = load_table("parts")["part"]


@each(PARTS)
def test_documented_signature(entry):
    """Every documented class and function has the documented parameters and defaults."""
    assert_signature(load_target(entry["ours"]), entry)


@each(entry for entry in PARTS if "component" in entry)
def test_registered_name(entry):
    """The part is registered under the name in the table."""
    kind, _, name = entry["component"].partition(":")
    distribution = entry.get("distribution", "dovetail")
    plugins = Plugins.discover(blocked=True if distribution == "dovetail" else ())

    assert plugins.find(kind, name).distribution == distribution
