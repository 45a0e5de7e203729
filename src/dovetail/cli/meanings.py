"""What the options of a part mean: read off its docstring or its fields, where they are explained anyway."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

_ENTRY: Final = re.compile(r" {4}\*{0,2}(\w+)(?: ?\([^:]*\))?: *(.*)")
_COMMENT: Final = re.compile(r" {4}#: ?(.*)")
_FIELD: Final = re.compile(r" {4}(\w+)\s*[:=]")
_ROLE: Final = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def meanings(target: Any) -> dict[str, str]:
    """Return what is said of each argument of a class or function, on one line, in plain words.

    Read are a docstring's section ``Args:``, its entries indented by four and what goes on by more, and of a class with
    fields the comments ``#:`` above them. What is written otherwise is left out.
    """
    found = dict(_fields(target)) if inspect.isclass(target) else {}
    found |= _arguments(inspect.getdoc(target) or "")
    if not found and inspect.isclass(target):
        found = _arguments(inspect.getdoc(target.__init__) or "")
    return {name: _plain(text) for name, text in found.items() if text}


def _arguments(docstring: str) -> dict[str, str]:
    lines = iter(docstring.splitlines())
    found: dict[str, str] = {}
    if not any(line == "Args:" for line in lines):
        return found
    name = ""
    for line in lines:
        if line and not line.startswith("    "):
            break
        entry = _ENTRY.fullmatch(line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line:
            found[name] += f" {line.strip()}"
    return found


def _fields(target: type) -> Iterator[tuple[str, str]]:
    try:
        source = textwrap.dedent(inspect.getsource(target))
    except (OSError, TypeError):  # made while the program ran, or not in Python
        return
    said: list[str] = []
    for line in source.splitlines():
        comment, named = _COMMENT.fullmatch(line), _FIELD.match(line)
        if comment:
            said.append(comment[1])
            continue
        if named and said:
            yield named[1], " ".join(said)
        said = []


def _plain(text: str) -> str:
    """Return a text without the marks of reStructuredText, and without a full stop after it."""
    return _ROLE.sub(r"\1", text).replace("``", "").strip().removesuffix(".")
