"""Tests of dovetail.config.locate: the positions of keys and values, compared with what tomli reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, given, settings

from dovetail.config.document import Document, parse_document
from dovetail.config.locate import Lines
from strategies import toml_texts


def everything(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every path below a value, with the value there."""
    match value:
        case dict():
            children = list(value.items())
        case list():
            children = list(enumerate(value))
        case _:
            children = []
    for part, inner in children:
        yield (*path, part), inner
        yield from everything(inner, (*path, part))


def cut(document: Document, path: tuple[str | int, ...], what: str) -> str:
    """Return the text at a path."""
    start, end = document.span(path, what)
    return document.text[start:end]


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(toml_texts())
def test_spans_parse_to_what_tomli_found(text: str) -> None:
    """The text at the position of each value parses to the value, the text at each key to the key."""
    document = parse_document(text, "wild.toml")

    assert repr(document.data) == repr(tomli.loads(text))
    for path, value in everything(document.data):
        at_value, at_key = cut(document, path, "value"), cut(document, path, "key")
        if isinstance(path[-1], str):
            assert tomli.loads(f"{at_key} = 1") == {path[-1]: 1}
        if at_value.startswith("[") and _is_header(document, path):
            named = tomli.loads(at_value)
            assert [part for part, _ in _single_path(named)] == [p for p in path if isinstance(p, str)]
        elif at_value != at_key or isinstance(path[-1], int):  # else a table that only longer keys name
            assert repr(tomli.loads(f"x = {at_value}")) == repr({"x": value})


def _is_header(document: Document, path: tuple[str | int, ...]) -> bool:
    start, _ = document.span(path, "value")
    line = document.text.rfind("\n", 0, start) + 1
    return document.text[line:start].strip() == "" and not _inside_array(document, path)


def _inside_array(document: Document, path: tuple[str | int, ...]) -> bool:
    """Tell whether a bracket at the start of a line belongs to a value inside an array in brackets."""
    start, end = document.span(path, "value")
    outers = [document.span(path[:length], "value") for length in range(1, len(path))]
    return any(outer_start < start and end < outer_end for outer_start, outer_end in outers)


def _single_path(table: Any) -> list[tuple[str, Any]]:
    way = []
    while table:
        table = table[0] if isinstance(table, list) else table
        if not table:
            break
        [(part, table)] = table.items()
        way.append((part, table))
    return way


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(toml_texts())
def test_lines_and_columns_point_at_the_span(text: str) -> None:
    """Line and column, counted from 1, are those of the first character of the span in the file."""
    document = parse_document(text, "wild.toml")
    lines = text.replace("\r\n", "\n").split("\n")

    for path, _ in everything(document.data):
        for what in ("key", "value"):
            line, column = document.locate(path, what)
            assert lines[line - 1][column - 1] == cut(document, path, what)[0]


PLACES = """\
title = "x"
[a.b]
  c . "d e".f = [ 1,
    # a comment ]
    { x = 'y', z.w = 2 },
  ]
[[phases]]
lr = 1
[phases.inner]
k = 1979-05-27 07:32:00
[[phases]]
lr = \"\"\"
[not.a.table]\"\"\"
[a]
late = +inf
"""


@pytest.mark.parametrize(
    "path, key, value",
    [
        ((), (1, 1), (1, 1)),
        (("title",), (1, 1), (1, 9)),
        (("a",), (14, 2), (14, 1)),
        (("a", "b"), (2, 4), (2, 1)),
        (("a", "b", "c"), (3, 3), (3, 3)),
        (("a", "b", "c", "d e"), (3, 7), (3, 7)),
        (("a", "b", "c", "d e", "f"), (3, 13), (3, 17)),
        (("a", "b", "c", "d e", "f", 0), (3, 19), (3, 19)),
        (("a", "b", "c", "d e", "f", 1), (5, 5), (5, 5)),
        (("a", "b", "c", "d e", "f", 1, "x"), (5, 7), (5, 11)),
        (("a", "b", "c", "d e", "f", 1, "z"), (5, 16), (5, 16)),
        (("a", "b", "c", "d e", "f", 1, "z", "w"), (5, 18), (5, 22)),
        (("phases",), (7, 3), (7, 1)),
        (("phases", 0), (7, 3), (7, 1)),
        (("phases", 0, "inner"), (9, 9), (9, 1)),
        (("phases", 0, "inner", "k"), (10, 1), (10, 5)),
        (("phases", 1), (11, 3), (11, 1)),
        (("phases", 1, "lr"), (12, 1), (12, 6)),
        (("a", "late"), (15, 1), (15, 8)),
    ],
)
def test_positions(path: tuple[str | int, ...], key: tuple[int, int], value: tuple[int, int]) -> None:
    """Each key and each value of a small document has the position where a reader would point."""
    document = parse_document(PLACES, "places.toml")

    assert key == document.locate(path, "key")
    assert value == document.locate(path)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_carriage_returns_and_byte_order_marks_do_not_count(newline: str) -> None:
    """Columns are those that an editor shows, for any line ending and with a byte order mark."""
    document = parse_document("\ufeff" + PLACES.replace("\n", newline), "places.toml")

    assert document.locate(("title",), "key") == (1, 1)
    assert document.locate(("phases", 0, "inner", "k")) == (10, 5)


@pytest.mark.parametrize("path", [("b",), ("a", 0), ("phases", 2), ("phases", -1), ("phases", "lr"), ("title", "x")])
def test_nothing_there(path: tuple[str | int, ...]) -> None:
    """A path that the document does not have raises a LookupError."""
    with pytest.raises(LookupError, match="at "):
        parse_document(PLACES, "places.toml").locate(path)


def test_lines_of_an_empty_text() -> None:
    """An empty text has a first line and a first column."""
    assert Lines("").position(0) == (1, 1)
