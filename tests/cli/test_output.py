"""Aligned columns."""

from __future__ import annotations

from dovetail.cli.output import columns


def test_columns_are_aligned():
    """Each column is as wide as its widest cell, lines have no trailing spaces, and no rows give no lines."""
    assert columns([["a", "bb", ""], ["ccc", "d", "e"]], head=["X", "Y", "Z"], right="1") == [
        "X     Y  Z",
        "a    bb",
        "ccc   d  e",
    ]
    assert columns([], head=["X"]) == []
