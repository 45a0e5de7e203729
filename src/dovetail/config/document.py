"""Run files as TOML documents with a position for every key and value, within bounds whatever the file contains."""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterable
from functools import cached_property, partial
from itertools import islice
from typing import Any, Final, Literal, NoReturn

import tomli
from attrs import frozen

from dovetail.config.diagnostics import ConfigError, Origin, Problem, suggest
from dovetail.config.locate import (
    MAX_DEPTH,
    MAX_KEY,
    LimitError,
    Lines,
    Location,
    ScanError,
    Scanner,
    TomlError,
)
from dovetail.config.notation import KeyPath, basic_string, dotted, visible
from dovetail.config.tree import Node

#: How many bytes a run file may have.
MAX_BYTES: Final = 1_000_000

_BOOLEAN: Final = "; TOML writes true and false in lower case"
_NULL: Final = '; TOML has no null: leave the key out, or write "@none"'
#: Values as other notations write them, in lower case, and how TOML writes them.
_FOREIGN: Final = {
    **dict.fromkeys(("true", "false", "yes", "no", "on", "off"), _BOOLEAN),
    **dict.fromkeys(("none", "null", "nil", "~"), _NULL),
    **dict.fromkeys(("inf", "infinity", "nan"), "; TOML writes inf and nan in lower case"),
}
_BACKSLASH: Final = r"; write \\ for a backslash, or put the string in single quotes"
_WORD: Final = re.compile(r"""[^\s,=\[\]{}#"']+""")
_KEY_BEGUN: Final = re.compile(r"[ \t]*\[{0,2}[ \t]*[\w.-]+[ \t]+")


@frozen
class Document:
    """A TOML document: its values and their positions."""

    #: The file as the user knows it.
    name: str
    #: The text with bare newlines and without a byte order mark.
    text: str
    data: dict[str, Any]

    def locate(self, path: KeyPath, what: Literal["key", "value"] = "value") -> tuple[int, int]:
        """Return the (line, column) of the key or the value at a path, counted from 1.

        The position of a table is its header; of a table that only longer keys name, that key. An element of an array
        has no key: the position of its value is returned.

        Raises:
            LookupError: the document has nothing at that path.
        """
        return self._lines.position(self.span(path, what)[0])

    def span(self, path: KeyPath, what: Literal["key", "value"] = "value") -> tuple[int, int]:
        """Return where in ``text`` the key or the value at a path begins and ends.

        Raises:
            LookupError: the document has nothing at that path.
        """
        location = self._locations.find(path)
        return location.key if what == "key" and location.key else location.value

    def origin(self, path: KeyPath, what: Literal["key", "value"] = "value") -> Origin:
        """Return the position of the key or the value at a path as an origin; raises as :meth:`locate` does."""
        return Origin(self.name, *self.locate(path, what))

    def tree(self) -> Node:
        """Return the whole document as a tree; this computes no position yet."""
        return self._tree(self.data, ())

    def _tree(self, value: Any, path: KeyPath) -> Node:
        match value:
            case dict():
                value = {name: self._tree(inner, (*path, name)) for name, inner in value.items()}
            case list():
                value = [self._tree(inner, (*path, index)) for index, inner in enumerate(value)]
        return Node(value, partial(self.origin, path), partial(self.origin, path, "key"))

    @cached_property
    def _locations(self) -> Location:
        return Scanner(self.text).scan()

    @cached_property
    def _lines(self) -> Lines:
        return Lines(self.text)


def load_document(path: str | os.PathLike[str]) -> Document:
    """Read a TOML file.

    Raises:
        ConfigError: with one problem: the file cannot be read, is not a regular file, is larger than 1 MB, is not UTF-8
            or not TOML, or it nests values deeper or has longer keys or numbers than any run file needs.
    """
    name = os.fspath(path)
    return parse_document(read_text(name), name)


def parse_document(text: str, name: str) -> Document:
    """Read TOML from a text; messages call it ``name``.

    Raises:
        ConfigError: with one problem, as for :func:`load_document`.
    """
    text = text.removeprefix("\ufeff")
    try:
        return Document(name, bare_newlines(text), parse(text))
    except TomlError as mistake:
        lines, message = Lines(bare_newlines(text)), mistake.message
        if mistake.other:
            remark, position = mistake.other
            message += " ({} at {}:{})".format(remark, *lines.position(position))
        origin = Origin(name, *lines.position(mistake.position))
        raise ConfigError([Problem(origin, dotted(mistake.path), f"{message}{mistake.hint}")]) from None


# --- the text of a file -----------------------------------------------------------------------------------------


def read_text(name: str) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        ConfigError: with one problem: the file cannot be read, is not a regular file, is larger than 1 MB, or is not
            UTF-8.
    """
    try:
        with open(name, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_BYTES + 1) if stat.S_ISREG(mode) else None
    except FileNotFoundError as error:
        _refuse(name, f"{_reason(error)}{_near_files(name)}")
    except (OSError, ValueError) as error:
        _refuse(name, _reason(error))
    if data is None:
        _refuse(name, f"is {'a pipe' if stat.S_ISFIFO(mode) else 'a device'}, not a file")
    if len(data) > MAX_BYTES:
        _refuse(name, f"is larger than {MAX_BYTES // 1_000_000} MB; no run file needs that")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _refuse(name, "is UTF-16; save it as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        message = f"the byte 0x{data[error.start]:02X} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Problem(Origin(name, *Lines(before).position(len(before))), "", message)]) from None


def _without_waiting(name: str, flags: int) -> int:
    """Open a file; a pipe that no process writes to must not block."""
    return os.open(name, flags | os.O_NONBLOCK)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "no file can have such a name"


def _near_files(name: str) -> str:
    folder, base = os.path.split(name)
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in islice(entries, 1000) if entry.name.endswith(".toml")]
    except OSError:
        return ""
    return suggest(base, names)


def _refuse(name: str, message: str) -> NoReturn:
    raise ConfigError([Problem(Origin(name), "", message)]) from None


# --- TOML, within bounds ----------------------------------------------------------------------------------------


def bare_newlines(text: str) -> str:
    """Return a text without the carriage returns that TOML allows before newlines, as tomli reads it."""
    return text.replace("\r\n", "\n")


def parse(text: str) -> dict[str, Any]:
    """Parse TOML, within bounds of time and memory.

    Raises:
        TomlError: the text is not TOML; a ``LimitError`` if it exceeds the limits. Positions are offsets in
            ``bare_newlines(text)``.
    """
    normal = bare_newlines(text)
    if _is_suspicious(normal) and (excess := _excess(normal)):
        raise excess
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise _explained(error) from None
    except RecursionError:
        raise _too_deep(normal) from None
    if _is_deeper(MAX_DEPTH, data):
        raise _too_deep(normal)
    return data


def _is_suspicious(text: str) -> bool:
    """Tell whether a line may hold what takes tomli long: a key of very many parts, a very long number."""
    return any(len(line) > MAX_KEY or line.count(".") >= MAX_DEPTH for line in text.split("\n"))


def _excess(text: str) -> LimitError | None:
    try:
        Scanner(text).scan()
    except LimitError as excess:
        return excess
    except ScanError:  # tomli finds the same mistake, or an earlier one, and describes it
        return None
    return None


def _too_deep(text: str) -> LimitError:
    return _excess(text) or LimitError(0, "nested too deep")


def _is_deeper(limit: int, data: dict[str, Any]) -> bool:
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


# --- syntax errors ----------------------------------------------------------------------------------------------


def _explained(error: tomli.TOMLDecodeError) -> TomlError:
    """Return tomli's error with its surroundings and a hint, or an earlier excess.

    Both come from the text alone; tomli's sentence is passed on and never interpreted.
    """
    text, position = error.doc, min(error.pos, len(error.doc))
    message = f"{error.msg[:1].lower()}{error.msg[1:]}"
    scanner, stray = Scanner(text[:position]), position
    try:
        scanner.scan()
    except LimitError as excess:
        return excess
    except ScanError as unfinished:
        stray = unfinished.position
    if stray < position and text[stray] in "\"'":
        hint = _BACKSLASH if "\\" in text[max(stray, position - 2) : position] else ""
        return TomlError(position, message, other=("the string begins", stray), hint=hint)
    if scanner.open:
        what = "array" if text[scanner.open[-1]] == "[" else "inline table"
        other = f"the {what} begins", scanner.open[-1]
        return TomlError(position, message, other=other, hint=_value_hint(text, position))
    path, start = scanner.last
    if not path or "\n" in text[start:position]:  # a mistake after the line of the last key
        return TomlError(position, message, hint=_value_hint(text, position) or _key_hint(text, position))
    first = _first_definition(scanner)
    if first is not None:
        return TomlError(start, message, path, ("first defined", first))
    return TomlError(position, message, path, hint=_value_hint(text, position) or _key_hint(text, position))


def _first_definition(scanner: Scanner) -> int | None:
    """Return the position of the first definition of the last key, if it is defined twice."""
    path, start = scanner.last
    location: Location | None = scanner.root
    for part in path:
        if location and location.children and isinstance(location.children, list) and isinstance(part, str):
            location = location.children[-1]  # a header refers to the last element
        location = location.step(part) if location else None
    return location.start if location and location.start < start and not isinstance(location.children, list) else None


def _value_hint(text: str, position: int) -> str:
    """Return how TOML writes the word at a position, if a value is expected there."""
    before = text[:position].rstrip(" \t")
    if re.search(r"(?<![\w.])[+-]?0$", before) and text[position : position + 1].isdigit():
        return "; a number has no leading zero"
    word = _WORD.match(text, position)
    if word is None or not before.endswith(("=", ",", "[")):
        return ""
    if hint := _FOREIGN.get(word[0].lower().lstrip("+-")):
        return hint
    if re.match(r"[+-]?\.\d", word[0]):
        return "; a number needs a digit before the point"
    return f"; a string needs quotes: {basic_string(visible(word[0]))}" if re.match(r"[^\W\d]|[/~.$@]", word[0]) else ""


def _key_hint(text: str, position: int) -> str:
    """Return how TOML writes a key, if the word at a position seems to continue one."""
    begun = _KEY_BEGUN.fullmatch(text, text.rfind("\n", 0, position) + 1, position)
    return "; a key with other characters needs quotes" if begun and text[position : position + 1].isalnum() else ""
