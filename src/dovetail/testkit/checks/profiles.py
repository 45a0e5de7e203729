"""Profiles: layers of config."""

from __future__ import annotations

from typing import Any

from dovetail.config.diagnostics import ConfigError
from dovetail.testkit.registry import check, expect, fail
from dovetail.testkit.subject import Subject
from dovetail.testkit.tables import run_file, structure_file


def _layer(subject: Subject) -> Any:
    return subject.signature.factory()


@check("profile")
def is_a_layer_of_config(subject: Subject) -> None:
    """It takes no arguments, and returns tables that a run file could hold."""
    required = [one.name for one in subject.signature.parameters.values() if one.required]
    expect(not required, f"a profile takes no arguments; this one asks for '{required[:1]}'")
    layer = _layer(subject)
    expect(isinstance(layer, dict), f"a profile returns tables of config; this one returned {layer!r}")
    whole = run_file("trainer", {"type": "dovetail:standard"})
    for section, values in layer.items():
        whole[section] = {**whole.get(section, {}), **values} if isinstance(values, dict) else values
    try:
        structure_file(whole, subject.plugins)
    except ConfigError as error:
        fail(f"no run file could hold what it returns:\n{error}")


@check("profile")
def repeats_itself(subject: Subject) -> None:
    """It returns the same layer every time, and a table of its own, which nobody else can change."""
    first = _layer(subject)
    expect(first == _layer(subject), "it returns another layer when called again: a run could not be repeated")
    first["changed"] = {"by": "somebody"}
    expect("changed" not in _layer(subject), "it hands out one table to everybody; return a new one")
