"""Profiles: they return a layer of config."""

from __future__ import annotations

from typing import Any

from dovetail.config.diagnostics import ConfigError
from dovetail.testkit.registry import check, expect, fail
from dovetail.testkit.run_files import run_file, structure_file
from dovetail.testkit.subject import Subject


def _layer(subject: Subject) -> Any:
    return subject.signature.factory()


@check("profile")
def is_a_layer_of_config(subject: Subject) -> None:
    """It takes no arguments and returns tables that are valid in a run file."""
    required = [parameter.name for parameter in subject.signature.parameters.values() if parameter.required]
    expect(not required, f"a profile takes no arguments; this one requires {', '.join(required)}")
    layer = _layer(subject)
    expect(isinstance(layer, dict), f"a profile returns a dict of config tables; this one returned {layer!r}")
    tables = run_file("trainer", {"type": "dovetail:standard"})
    for section, values in layer.items():
        tables[section] = {**tables.get(section, {}), **values} if isinstance(values, dict) else values
    try:
        structure_file(tables, subject.plugins)
    except ConfigError as error:
        fail(f"it returns tables that are invalid in a run file:\n{error}")


@check("profile")
def repeats_itself(subject: Subject) -> None:
    """It returns the same layer every time, in a new dict."""
    first = _layer(subject)
    expect(first == _layer(subject), "it returns a different layer when called again, so a run could not be repeated")
    first["changed"] = {"by": "somebody"}
    expect("changed" not in _layer(subject), "it returns the same dict every time; return a new one")
