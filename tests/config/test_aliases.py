"""Tests of dovetail.config.aliases."""

from __future__ import annotations

import attrs
import pytest

from dovetail.config.aliases import ALIASES, ELSEWHERE, unknown_key
from dovetail.config.schema import sections


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_every_alias_is_of_a_setting(name: str) -> None:
    """Each alias is of a setting that exists, or of an option of a part."""
    section, _, rest = ALIASES[name].partition(".")
    known = {section.name: section.type for section in sections()}

    assert section in known
    if attrs.has(known[section]):
        assert rest in attrs.fields_dict(known[section])


@pytest.mark.parametrize("name", sorted({**ALIASES, **ELSEWHERE}))
def test_every_alias_has_an_answer_in_a_file(name: str) -> None:
    """An alias in a run file is answered with our name, in any section."""
    said = unknown_key(("logging",), name, ["every", "console"], "this table")

    assert said.startswith("unknown key; ")
    assert "did you mean" in said or "comes with" in said
