"""TOML with a position for every key and value, bounded whatever the file holds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property, partial
from typing import Any, Literal

import tomli
from attrs import frozen

from dovetail.config.diagnostics import ConfigError, Origin, Problem
from dovetail.config.locate import (
    MAX_DEPTH,
    MAX_KEY,
    ExcessError,
    Lines,
    MistakeError,
    Scanner,
    Spot,
    StrayError,
)
from dovetail.config.notation import KeyPath, dotted
from dovetail.config.source import read_text
from dovetail.config.syntax import explain
from dovetail.config.tree import Node


@frozen
class Document:
    """A TOML document, its values and their places."""

    #: The file as the user knows it.
    name: str
    #: The text with bare newlines and without a byte order mark.
    text: str
    data: dict[str, Any]

    def locate(self, path: KeyPath, what: Literal["key", "value"] = "value") -> tuple[int, int]:
        """Return the (line, column) of the key or the value at a path, counted from 1.

        The value of a table with a header is the header; of a table that stands only in other keys, that key.
        An element of an array has no key: its value stands for it.

        Raises:
            LookupError: the document has nothing at that path.
        """
        return self._lines.place(self.span(path, what)[0])

    def span(self, path: KeyPath, what: Literal["key", "value"] = "value") -> tuple[int, int]:
        """Return where in ``text`` the key or the value at a path begins and ends.

        Raises:
            LookupError: the document has nothing at that path.
        """
        spot = self._spots.find(path)
        return spot.key if what == "key" and spot.key else spot.value

    def origin(self, path: KeyPath, what: Literal["key", "value"] = "value") -> Origin:
        """Return the place of the key or the value at a path as an origin; raises as :meth:`locate` does."""
        return Origin(self.name, *self.locate(path, what))

    def tree(self) -> Node:
        """Return the whole document as a tree; no place is looked up yet."""
        return self._tree(self.data, ())

    def _tree(self, value: Any, path: KeyPath) -> Node:
        match value:
            case dict():
                value = {name: self._tree(inner, (*path, name)) for name, inner in value.items()}
            case list():
                value = [self._tree(inner, (*path, index)) for index, inner in enumerate(value)]
        return Node(value, partial(self.origin, path), partial(self.origin, path, "key"))

    @cached_property
    def _spots(self) -> Spot:
        return Scanner(self.text).scan()

    @cached_property
    def _lines(self) -> Lines:
        return Lines(self.text)


def load_document(path: str | os.PathLike[str]) -> Document:
    """Read a TOML file.

    Raises:
        ConfigError: with one problem: the file cannot be read, is no regular file, is larger than 1 MB, is
            not UTF-8 or not TOML, or it nests values deeper or writes keys or numbers longer than any run
            file needs.
    """
    name = os.fspath(path)
    return parse_document(read_text(name), name)


def parse_document(text: str, name: str) -> Document:
    """Read TOML from a text; ``name`` is what messages call it.

    Raises:
        ConfigError: with one problem, as for :func:`load_document`.
    """
    text = text.removeprefix("\ufeff")
    try:
        return Document(name, bare_newlines(text), parse(text))
    except MistakeError as mistake:
        lines, message = Lines(bare_newlines(text)), mistake.message
        if mistake.other:
            remark, position = mistake.other
            message += ", {} at {}:{}".format(remark, *lines.place(position))
        origin = Origin(name, *lines.place(mistake.position))
        raise ConfigError([Problem(origin, dotted(mistake.path), message)]) from None


def bare_newlines(text: str) -> str:
    """Return a text without the carriage returns that TOML allows before its newlines, as tomli does, once."""
    return text.replace("\r\n", "\n")


def parse(text: str) -> dict[str, Any]:
    """Parse TOML, within bounds of time and memory.

    Raises:
        MistakeError: the text is not TOML; an ``ExcessError`` if it is beyond the limits. Positions are those in
            the text with :func:`bare_newlines`.
    """
    normal = bare_newlines(text)
    if _suspicious(normal) and (excess := _excess(normal)):
        raise excess
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise explain(error) from None
    except RecursionError:
        raise _too_deep(normal) from None
    if _depth_exceeds(MAX_DEPTH, data):
        raise _too_deep(normal)
    return data


def _suspicious(text: str) -> bool:
    """Tell whether a line may hold what takes tomli long: a key of very many parts, a very long number."""
    return any(len(line) > MAX_KEY or line.count(".") >= MAX_DEPTH for line in text.split("\n"))


def _excess(text: str) -> ExcessError | None:
    try:
        Scanner(text).scan()
    except ExcessError as excess:
        return excess
    except StrayError:  # tomli will find the same, or something before it, and say more
        return None
    return None


def _too_deep(text: str) -> ExcessError:
    return _excess(text) or ExcessError(0, "nested too deep")


def _depth_exceeds(limit: int, data: dict[str, Any]) -> bool:
    level: list[Any] = [data]
    for _ in range(limit + 1):
        level = [inner for outer in level for inner in _inner(outer)]
    return bool(level)


def _inner(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()
