"""TOML notation for keys, paths and values, and any text as one printable line."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from dovetail.kernel.secret import Env

#: The path to a value: names of keys, and indexes of array elements.
KeyPath: TypeAlias = tuple[str | int, ...]

#: None in a run file and on the command line; TOML has no null.
NONE: Final = "@none"
#: Removes an inherited key.
UNSET: Final = "@unset"

_MOST_BITS: Final = 4000  # Python refuses to write much larger integers in decimal
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHORT_ESCAPES: Final = {
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
}


def visible(text: str, limit: int = 60) -> str:
    """Return ``text`` as one line without control characters, shortened in the middle to ``limit`` characters."""
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[len(text) - half :]}"
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def quoted(text: str) -> str:
    """Return ``text`` as :func:`visible` does, in quotes."""
    quote = '"' if "'" in text else "'"
    return f"{quote}{visible(text)}{quote}"


def basic_string(text: str) -> str:
    """Return ``text`` as a one-line TOML string in double quotes."""
    shown = (_SHORT_ESCAPES.get(char) or (char if char.isprintable() else _escape(char)) for char in text)
    return f'"{"".join(shown)}"'


def key(name: str) -> str:
    """Return ``name`` as a TOML key: bare if possible, else quoted."""
    return name if _BARE_KEY.fullmatch(name) else basic_string(name)


def dotted(path: KeyPath) -> str:
    """Return a path as a dotted TOML key, with indexes of array elements in brackets: ``a."b c".d[2]``."""
    written = ""
    for part in path:
        written += f"[{part}]" if isinstance(part, int) else f".{key(part)}"
    return written.removeprefix(".")


def inline(value: object) -> str:
    """Return a plain value in TOML, on one line.

    None becomes ``"@none"`` and a secret ``{ env = "NAME" }``, as a run file writes them.

    Raises:
        TypeError: TOML has no notation for such a value.
    """
    match value:
        case None | str():
            return basic_string(NONE if value is None else value)
        case Env(name=name):
            return _inline_table({"env": name})
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > _MOST_BITS:
            return hex(value)
        case int() | float():
            return repr(value)  # Python and TOML write inf and nan alike, too
        case dt.date() | dt.time():
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(map(inline, value))}]"
        case Mapping():
            return _inline_table(value)
        case _:
            raise TypeError(f"TOML has no notation for {type(value).__name__}")


def _inline_table(table: Mapping[Any, Any]) -> str:
    entries = ", ".join(f"{key(name)} = {inline(value)}" for name, value in table.items())
    return f"{{ {entries} }}" if entries else "{}"


def _escape(char: str) -> str:
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    code = ord(char)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"  # noqa: PLR2004 - where TOML's short form ends
