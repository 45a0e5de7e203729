"""Where each key and each value of a TOML text is.

tomli returns the content of a document without positions. This module reads the text a second time, when a position is
first needed. It relies on tomli having accepted the text: it finds the ends of things and does not validate them. Two
callers pass other texts, and expect a ``ScanError``: the search for what is too deep or too long, which stops at the
first find, and the explanation of a syntax error, which reads up to the error.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final, TypeAlias

import tomli
from attrs import define

from dovetail.config.notation import KeyPath

#: How many keys and indexes may lead to a value.
MAX_DEPTH: Final = 32
#: How many characters a single key may have.
MAX_KEY: Final = 256
#: How many characters a number or a date may have.
MAX_NUMBER: Final = 300

Span: TypeAlias = tuple[int, int]
Remark: TypeAlias = tuple[str, int]
KeyPart: TypeAlias = tuple[str, Span]

_BLANK: Final = re.compile(r"(?:[ \t\n]++|#[^\n]*+)*+")
_SPACE: Final = re.compile(r"[ \t]*+")
_BASIC: Final = r'"(?:[^"\\\n]++|\\.)*+"'
_LITERAL: Final = r"'[^'\n]*+'"
_KEY: Final = re.compile(rf"[A-Za-z0-9_-]++|{_BASIC}|{_LITERAL}")
_STRINGS: Final = {  # by their opening; up to two quotes may precede the closing three
    '"""': re.compile(r'"""(?:[^"\\]++|\\.|"(?!""))*+"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']++|'(?!''))*+'{3,5}"),
    '"': re.compile(_BASIC),
    "'": re.compile(_LITERAL),
}
_PLAIN: Final = re.compile(  # only a date with a time may contain a space
    r"\d{4}-\d\d-\d\d \d\d:[\d:.]++(?:[Zz]|[+-]\d\d:\d\d)?|[A-Za-z0-9_+.:-]++"
)


class TomlError(Exception):
    """A text is not TOML."""

    def __init__(
        self, position: int, message: str, path: KeyPath = (), other: Remark | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        #: Where in the text, as an offset.
        self.position = position
        self.message = message
        #: The key in question, if there is one.
        self.path = path
        #: Another position that matters, such as ("the string begins", 12).
        self.other = other
        #: What to write instead; begins with "; " unless it is empty.
        self.hint = hint


class LimitError(TomlError):
    """A text nests values deeper, or has longer keys or numbers, than any configuration needs."""


class ScanError(Exception):
    """The text is not TOML at this position: an unclosed string begins there, or something is missing."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@define
class Location:
    """The positions of one key and its value: pairs of offsets, of the first character and after the last one."""

    depth: int
    #: The value; for a table with a header, the header; for a table that only longer keys name, its key.
    value: Span
    #: None for the whole document and for the elements of an array in brackets.
    key: Span | None = None
    children: dict[str, Location] | list[Location] | None = None

    @property
    def start(self) -> int:
        """The offset of the key, or of the value if there is no key."""
        return (self.key or self.value)[0]

    def find(self, path: KeyPath) -> Location:
        """Return the location at a path below this one.

        Raises:
            LookupError: nothing is there.
        """
        location, before = self, 0
        for before, part in enumerate(path):
            deeper = location.step(part)
            if deeper is None:
                raise LookupError(f"no {part!r} at {path[:before]!r}")
            location = deeper
        return location

    def step(self, part: str | int) -> Location | None:
        """Return the location of one key or one element, or None."""
        match self.children:
            case dict() if isinstance(part, str):
                return self.children.get(part)
            case list() if isinstance(part, int) and 0 <= part < len(self.children):
                return self.children[part]
            case _:
                return None


class Lines:
    """Converts offsets in a text to lines and columns, both counted from 1."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(newline.end() for newline in re.finditer("\n", text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Return the (line, column) of an offset."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


class Scanner:
    """Reads a text whose lines end in a bare newline, once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root = Location(0, (0, 0), children={})
        #: The offsets of the arrays and inline tables that are not closed yet, outermost first.
        self.open: list[int] = []
        #: The path of the last key, and its offset; the key of a pair is set after its value.
        self.last: tuple[KeyPath, int] = ((), 0)

    def scan(self) -> Location:
        """Return the location of the whole document.

        Raises:
            LimitError: something is too deep or too long.
            ScanError: the text is not TOML.
        """
        table: Location = self.root
        path: KeyPath = ()
        position = self._blank(0)
        while position < len(self.text):
            if self._at("[", position):
                table, path, position = self._header(position)
            else:
                position = self._pair(position, table, path)
            position = self._blank(position)
        return self.root

    # --- tables ---

    def _header(self, start: int) -> tuple[Location, KeyPath, int]:
        bracket = "]]" if self._at("[[", start) else "]"
        parts, end = self.key(self._space(start + len(bracket)))
        path = tuple(name for name, _ in parts)
        self.last = path, parts[0][1][0]
        end = self._expect(bracket, end)
        table = self._reach(self.root, parts[:-1])
        name, key = parts[-1]
        location = self._enter(table, name, key)
        if bracket == "]]":
            return self._element(location, (start, end), key), path, end
        if location.value == location.key:  # only longer keys have named it so far
            location.key, location.value = key, (start, end)
        return location, path, end

    def _element(self, array: Location, header: Span, key: Span) -> Location:
        if not array.children:  # the first element; until now the location was taken for a table
            array.value, array.children = header, []
        element = self._location(array, header, key)
        element.children = {}
        if isinstance(array.children, list):
            array.children.append(element)
        return element

    def _reach(self, table: Location, parts: list[KeyPart]) -> Location:
        for name, key in parts:
            table = self._enter(table, name, key)
            if isinstance(table.children, list) and table.children:
                table = table.children[-1]
        return table

    def _enter(self, table: Location, name: str, key: Span) -> Location:
        location = table.step(name)
        if location is None:
            location = self._location(table, key, key)
            location.children = {}
            self._keep(table, name, location)
        return location

    @staticmethod
    def _keep(table: Location, name: str, location: Location) -> None:
        """Add a location, unless there is one already: a second definition is an error, which needs the first one."""
        if isinstance(table.children, dict):
            table.children.setdefault(name, location)

    # --- keys and values ---

    def _pair(self, start: int, table: Location, path: KeyPath) -> int:
        parts, end = self.key(start)
        target = self._reach(table, parts[:-1])
        name, key = parts[-1]
        path = (*path, *(part for part, _ in parts))
        location = self._location(target, key, key)
        self._keep(target, name, location)
        end = self._value(self._space(self._expect("=", end)), location, path)
        self.last = path, start
        return end

    def key(self, position: int) -> tuple[list[KeyPart], int]:
        """Return the parts of the dotted key at a position, and the offset of what follows it.

        Raises:
            LimitError: the key is too long.
            ScanError: there is no key, or a part of it is missing.
        """
        parts: list[KeyPart] = []
        while True:
            token = _KEY.match(self.text, position)
            if token is None:
                raise ScanError(position)
            if token.end() - position > MAX_KEY:
                raise LimitError(position, f"a key of more than {MAX_KEY} characters")
            parts.append((self._name(token), token.span()))
            if len(parts) > MAX_DEPTH:
                raise LimitError(parts[0][1][0], f"a key of more than {MAX_DEPTH} parts")
            position = self._space(token.end())
            if not self._at(".", position):
                return parts, position
            position = self._space(position + 1)

    @staticmethod
    def _name(token: re.Match[str]) -> str:
        raw = token[0]
        if raw[0] not in "'\"":
            return raw
        if raw[0] == "'" or "\\" not in raw:
            return raw[1:-1]
        try:
            return str(tomli.loads(f"key = {raw}")["key"])
        except tomli.TOMLDecodeError:
            raise ScanError(token.start()) from None

    def _value(self, start: int, location: Location, path: KeyPath) -> int:
        if self._at("[", start):
            end = self._array(start, location, path)
        elif self._at("{", start):
            end = self._table(start, location, path)
        else:
            end = self._scalar(start)
        location.value = start, end
        return end

    def _array(self, start: int, location: Location, path: KeyPath) -> int:
        elements: list[Location] = []
        location.children = elements
        self.open.append(start)
        end = self._blank(start + 1)
        while not self._at("]", end):
            elements.append(self._location(location, (end, end)))
            end = self._next("]", self._value(end, elements[-1], (*path, len(elements) - 1)))
        self.open.pop()
        return end + 1

    def _table(self, start: int, location: Location, path: KeyPath) -> int:
        location.children = {}
        self.open.append(start)
        end = self._blank(start + 1)
        while not self._at("}", end):
            end = self._next("}", self._pair(end, location, path))
        self.open.pop()
        return end + 1

    def _next(self, bracket: str, position: int) -> int:
        """Return the offset of the next entry of an array or an inline table, or of its closing bracket."""
        position = self._blank(position)
        return position if self._at(bracket, position) else self._blank(self._expect(",", position))

    def _scalar(self, start: int) -> int:
        quotes = next((quotes for quotes in _STRINGS if self._at(quotes, start)), None)
        token = (_STRINGS[quotes] if quotes else _PLAIN).match(self.text, start)
        if token is None:
            raise ScanError(start)
        if token.end() - start > MAX_NUMBER and token[0][0] in "+-0123456789":
            raise LimitError(start, f"a number of more than {MAX_NUMBER} digits")
        return token.end()

    # --- characters ---

    def _location(self, parent: Location, value: Span, key: Span | None = None) -> Location:
        if parent.depth >= MAX_DEPTH:
            raise LimitError(value[0], f"tables and arrays nested more than {MAX_DEPTH} deep")
        return Location(parent.depth + 1, value, key)

    def _at(self, expected: str, position: int) -> bool:
        return self.text.startswith(expected, position)

    def _expect(self, expected: str, position: int) -> int:
        if not self._at(expected, position):
            raise ScanError(position)
        return position + len(expected)

    def _blank(self, position: int) -> int:
        return self._skip(_BLANK, position)

    def _space(self, position: int) -> int:
        return self._skip(_SPACE, position)

    def _skip(self, pattern: re.Pattern[str], position: int) -> int:
        match = pattern.match(self.text, position)
        return match.end() if match else position
