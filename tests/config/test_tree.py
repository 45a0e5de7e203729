"""Tests of dovetail.config.tree."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from dovetail.config.diagnostics import PYTHON, Origin, Problem
from dovetail.config.tree import Node, flatten, merge, origin_of, resolve
from strategies import plain_tables


def test_origins_of_missing_values() -> None:
    """A path that the tree does not have has the origin of the innermost table on it."""
    tree = Node.from_python({"a": {"b": [1]}, "c": 1})

    assert str(origin_of(tree, ("a", "x", "y"))) == "Python"
    assert str(origin_of(tree, ("a", "b", 0))) == "Python"
    assert str(origin_of(tree, ("c", "d"))) == "Python"


@given(plain_tables)
def test_plain_values_survive_the_tree(table: dict[str, Any]) -> None:
    """A tree of plain values returns them unchanged."""
    assert repr(Node.from_python(table).to_python()) == repr(table)


def test_objects_are_not_touched() -> None:
    """A Python object stays the very object, even if it cannot be compared."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = None

    odd = Odd()
    problems: list[Problem] = []
    tree = merge(Node.from_python({"a": {"type": "x"}}), Node.from_python({"a": {"type": odd, "b": (odd,)}}), problems)

    resolved = resolve(tree, problems)

    assert resolved.table["a"].table["type"].value is odd
    assert resolved.table["a"].table["b"].value[0].value is odd
    assert resolved.table["a"].origin() == PYTHON
    assert problems == []


def test_flattening_quotes_keys_and_keeps_empty_tables() -> None:
    """Paths are TOML; an empty table is a value, an empty configuration has none."""
    tree = Node.from_python({"a": {"b c": {"d": 1}, "e": {}}, "f": []}, Origin("x"))

    assert flatten(tree) == [('a."b c".d', 1, Origin("x")), ("a.e", {}, Origin("x")), ("f", [], Origin("x"))]
    assert flatten(Node.from_python({})) == []
