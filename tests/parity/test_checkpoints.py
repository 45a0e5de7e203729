"""Our checkpoint manager and settings have the documents' names and defaults, as listed in checkpoints.toml."""

from __future__ import annotations

import importlib
import inspect
from operator import attrgetter

import attrs

from dovetail.config.schema import RunConfig
from parity_tables import assert_signature, each, load_table

TABLE = load_table("checkpoints")


@each(TABLE["python"])
def test_documented_signature(entry):
    """Documented classes and methods have the documented parameters and defaults, records the documented fields."""
    module, _, path = entry["ours"].partition(":")
    found = attrgetter(path)(importlib.import_module(module))
    if "fields" in entry:
        assert [field.name for field in attrs.fields(found)][: len(entry["fields"])] == entry["fields"]
    else:
        assert_signature(found, entry)


@each(TABLE["setting"])
def test_documented_setting(entry):
    """Every documented setting is in a section of the run file, with the documented default."""
    section, _, name = entry["ours"].partition(".")
    built = inspect.get_annotations(RunConfig, eval_str=True)[section]()

    assert hasattr(built, name)
    assert getattr(built, name) == entry.get("value", getattr(built, name))
