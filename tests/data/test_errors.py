"""The wording of errors about data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dovetail.data.errors import DataError, count, existing_file, listing


@pytest.mark.parametrize(
    "number, noun, expected",
    [
        (1, "row", "1 row"),
        (0, "row", "0 rows"),
        (4177, "class", "4,177 classes"),
        (2, "batch", "2 batches"),
        (2, "box", "2 boxes"),
        (3, "query", "3 queries"),
    ],
)
def test_counts_have_singular_and_plural(number, noun, expected):
    """With thousands separated."""
    assert count(number, noun) == expected


def test_long_lists_of_names_are_cut():
    """The number of names left out follows."""
    names = [f"c{number}" for number in range(2000)]

    assert listing(names[:2]) == "'c0', 'c1'"
    assert listing(names, most=1) == "'c0' and 1,999 more"


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    """As in a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data.csv").touch()

    assert existing_file(Path("~/data.csv")) == tmp_path / "data.csv"


def test_a_special_file_is_not_a_file(tmp_path):
    """Reading a pipe would block."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(DataError, match=r"pipe: this is not a file$"):
        existing_file(tmp_path / "pipe")
