"""The tables in ``tests/parity``: names and defaults of the source documents, and our name for each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import tomli

from places import TESTS


def load_table(name: str) -> dict[str, Any]:
    """Read ``tests/parity/NAME.toml``."""
    return tomli.loads((TESTS / "parity" / f"{name}.toml").read_text(encoding="utf-8"))


def each(entries: Iterable[dict[str, Any]]) -> Any:
    """Parametrise a test over entries of a table, as ``entry``."""
    entries = list(entries)
    return pytest.mark.parametrize(
        "entry", entries, ids=[f"{entry.get('id', 'preset')}-{entry['name']}" for entry in entries]
    )


def documented_defaults(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the documented defaults of an entry; the table writes None as ``@none``."""
    return {name: None if value == "@none" else value for name, value in entry.get("defaults", {}).items()}


def assert_signature(function: Callable[..., Any], entry: dict[str, Any]) -> None:
    """Assert that a function has the documented parameters, in order, with the documented defaults."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }
    expected = documented_defaults(entry)
    defaults = {name: parameters[name].default for name in expected}

    assert list(parameters)[: len(entry["takes"])] == entry["takes"]
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()} == expected
