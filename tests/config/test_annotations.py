"""Tests of dovetail.config.annotations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from config_parts import Range, Recorder
from dovetail.config.annotations import describe
from dovetail.spec.limits import AtLeast
from dovetail.spec.protocols import Loss


@pytest.mark.parametrize(
    "annotation, words",
    [
        (int, "an integer"),
        (list, "an array"),
        (Annotated[int, AtLeast(1)], "an integer"),
        (list[Loss], "an array of loss tables"),
        (list[list[int]], "an array of arrays"),
        (list[Range], "an array of values"),
        (list[Annotated[int, AtLeast(1)]], "an array of integers"),
        (tuple[int, str], "an array of 2 values"),
        (dict[str, int], "a table"),
        (int | None, "an integer"),
        (int | list[str] | Literal["a", "b"], "an integer, an array of strings, 'a' or 'b'"),
        (type(None), '"@none"'),
        (Any, "a value"),
        (Recorder, "a Recorder object"),
        (Loss, "a loss, a table such as { type = … }"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    """A message names a type in the words of a run file."""
    assert describe(annotation) == words
