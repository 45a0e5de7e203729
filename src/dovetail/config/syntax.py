"""tomli's syntax errors in plain words, at the place where the mistake is."""

from __future__ import annotations

import re
from typing import Final

import tomli

from dovetail.config.locate import ExcessError, MistakeError, Scanner, StrayError
from dovetail.config.notation import basic_string, quoted, visible

_TOKEN: Final = re.compile(r"""[^\s,=\[\]{}#"']+|\S""")
#: What other notations write for what TOML writes differently, in lower case.
_FOREIGN: Final = {
    "true": "; TOML writes true and false in lower case",
    "false": "; TOML writes true and false in lower case",
    "yes": "; TOML writes true and false",
    "no": "; TOML writes true and false",
    "on": "; TOML writes true and false",
    "off": "; TOML writes true and false",
    "inf": "; TOML writes inf in lower case",
    "infinity": "; TOML writes inf",
    "nan": "; TOML writes nan in lower case",
    "none": '; TOML has no null: leave the key out, or write "@none"',
    "null": '; TOML has no null: leave the key out, or write "@none"',
    "nil": '; TOML has no null: leave the key out, or write "@none"',
    "~": '; TOML has no null: leave the key out, or write "@none"',
}
_MISSING: Final = {
    "Expected ']' at the end of a table declaration": "']' at the end of the table's header",
    "Expected ']]' at the end of an array declaration": "']]' at the end of the header",
    "Invalid initial character for a key part": "a key",
    "Invalid statement": "a key or a [table]",
}
_WRONG: Final = {
    "Invalid hex value": r"\x, \u and \U need 2, 4 and 8 hexadecimal digits",
    "Escaped character is not a Unicode scalar value": "there is no such character in Unicode",
    "Invalid date or datetime": "there is no such date",
}
_DEFINED_TWICE: Final = re.compile(r"Cannot |Duplicate ")
_UNCLOSED_STRING: Final = re.compile(r"""(Illegal|Found invalid) character '\\n'|Unterminated|Expected "'+\"""")
_CONTROL_CHARACTER: Final = re.compile(r"(Illegal|Found invalid) character ")


def explain(error: tomli.TOMLDecodeError) -> MistakeError:
    """Return in plain words what tomli did not accept, or what before it is too deep or too long."""
    text, position, reason = error.doc, error.pos, error.msg
    try:
        before = _Before(text[:position])
    except ExcessError as excess:
        return excess
    if _UNCLOSED_STRING.match(reason):
        return MistakeError(before.stray, "a string that is never closed")
    if _DEFINED_TWICE.match(reason):
        return _defined_twice(before.scanner)
    if _CONTROL_CHARACTER.match(reason):
        return MistakeError(position, f"the control character U+{ord(text[position]):04X} must not stand here")
    if reason.startswith("Unclosed"):
        return _unclosed(text, position, before.scanner.open[-1])
    if reason.startswith("Unescaped"):
        return _escape(text, position)
    if reason in _WRONG:
        return MistakeError(position, _WRONG[reason])
    return MistakeError(position, _expected(text, position, reason))


class _Before:
    """What stands before the error, which is TOML but for its end."""

    def __init__(self, text: str) -> None:
        self.scanner = Scanner(text)
        #: Where the last thing begins that has no end.
        self.stray = len(text)
        try:
            self.scanner.scan()
        except StrayError as stray:
            self.stray = stray.position


def _defined_twice(scanner: Scanner) -> MistakeError:
    path, position = scanner.last
    spot, depth = scanner.root, 0
    for part in path:
        outer = spot
        if isinstance(spot.children, list) and spot.children and isinstance(part, str):
            outer = spot.children[-1]  # a header leads to the last element
        deeper = outer.step(part)
        if deeper is None or deeper.start >= position:
            break
        spot, depth = deeper, depth + 1
    return MistakeError(position, "defined a second time", path[:depth], ("first", spot.start))


def _unclosed(text: str, position: int, start: int) -> MistakeError:
    what, bracket = ("array", "]") if text[start] == "[" else ("inline table", "}")
    if position >= len(text):
        return MistakeError(start, f"an {what} that is never closed with '{bracket}'")
    message = f"expected ',' or '{bracket}', got {_token(text, position)}"
    return MistakeError(position, message, other=(f"in the {what} that begins", start))


def _escape(text: str, position: int) -> MistakeError:
    start = text.rindex("\\", 0, position)
    shown = visible(text[start : start + 2])
    remedy = r"write \\ for a backslash, or put the string in single quotes"
    return MistakeError(start, f"{shown} is not an escape sequence; {remedy}")


def _expected(text: str, position: int, reason: str) -> str:
    got = _token(text, position)
    match reason:
        case "Expected '=' after a key in a key/value pair":
            hint = "" if got.startswith("the end") or got == "':'" else "; a key with other characters needs quotes"
            return f"expected '=' after the key, got {got}{hint}"
        case "Expected newline or end of document after a statement":
            zero = re.search(r"(?<![\w.])[+-]?0$", text[:position]) and text[position].isdigit()
            return f"expected the end of the line, got {got}{'; a number has no leading zero' if zero else ''}"
        case "Invalid value":
            return f"expected a value, got {got}{_value_hint(text, position)}"
        case _:
            return f"expected {_MISSING.get(reason, f'something else ({reason})')}, got {got}"


def _value_hint(text: str, position: int) -> str:
    token = _TOKEN.match(text, position)
    if token is None:
        return ""
    word = token[0]
    if hint := _FOREIGN.get(word.lower().lstrip("+-")):
        return hint
    if re.match(r"[+-]?\.\d", word):
        return "; a number needs a digit before the point"
    if re.match(r"[^\W\d]|[/~.$@]", word):
        return f"; a string needs quotes: {basic_string(visible(word))}"
    return ""


def _token(text: str, position: int) -> str:
    if position >= len(text):
        return "the end of the text"
    if text[position] == "\r":
        return "a carriage return without a line feed"
    token = _TOKEN.match(text, position)
    return quoted(token[0]) if token else "the end of the line"
