"""Tests of dovetail.config.notation."""

from __future__ import annotations

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from dovetail.config.notation import dotted, inline, key, quoted, visible
from dovetail.kernel.secret import Env
from strategies import key_names, plain_values


@given(st.lists(key_names, min_size=1, max_size=4))
def test_paths_are_written_as_toml_reads_them(names: list[str]) -> None:
    """A dotted path, quoted where necessary, is one line of TOML with the same key."""
    written = dotted(names)
    table = tomli.loads(f"{written} = 1")
    for name in names:
        table = table[name]

    assert table == 1
    assert written.isprintable()
    assert key(names[0]) == dotted(names[:1])


def test_indexes_are_in_brackets() -> None:
    """The index of an element follows the name of its array."""
    assert dotted(("a", "b c", 2, "d", 0, 1)) == 'a."b c"[2].d[0][1]'


@given(plain_values)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    """Every plain value fits on one line, and TOML reads it back unchanged."""
    written = inline(value)

    assert "\n" not in written
    assert repr(tomli.loads(f"x = {written}")["x"]) == repr(value)


def test_values_without_notation() -> None:
    """None and secrets have a notation of our own; other objects have none."""
    assert inline({"a": None, "b": Env("TOKEN"), "c": {}}) == '{ a = "@none", b = { env = "TOKEN" }, c = {} }'
    with pytest.raises(TypeError, match="no notation for object"):
        inline([object()])


@given(st.text())
def test_visible_text_is_short_and_on_one_line(text: str) -> None:
    """A message shows any text without control characters, shortened in the middle."""
    shown = visible(text, limit=20)

    assert shown.isprintable()
    assert shown == text or len(text) > 20 or not text.isprintable()
    assert quoted(text)[0] == quoted(text)[-1]


def test_long_text_is_shortened_in_the_middle() -> None:
    """The beginning and the end of a long text remain."""
    assert visible("begin" + "x" * 100 + "end!!", limit=11) == "begin…end!!"
    assert visible("\U000e0001\x7f") == "\\U000E0001\\u007F"
