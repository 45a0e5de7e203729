"""Keys: the names of objects in any store."""

from __future__ import annotations

from typing import Final

from dovetail.storage.atomic import unfinished

_LONGEST: Final = 255  # bytes: what file systems allow for one name


def check_key(key: str) -> str:
    """Return ``key`` if every store can take it: a relative path with ``/`` between its parts.

    Raises:
        ValueError: it is empty or absolute; a part is empty, ``.`` or ``..``, longer than 255 bytes in UTF-8, or
            such as unfinished files have; it holds a NUL or cannot be written in UTF-8. The message shows the key.
    """
    problem = _problem(key)
    if problem:
        shown = key if len(key) <= 80 else f"{key[:80]}…"  # noqa: PLR2004 (enough to know it by)
        raise ValueError(f"key {shown!r}: {problem}")
    return key


def _problem(key: str) -> str | None:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it cannot be written in UTF-8"
    parts = key.split("/")
    problems = {
        "it is empty": not key,
        "it holds a NUL character": "\0" in key,
        "it must be relative, not start with '/'": key.startswith("/"),
        "an empty part": "" in parts,
        "'.' and '..' are not allowed as parts": "." in parts or ".." in parts,
        f"a part is longer than {_LONGEST} bytes": any(len(part) > _LONGEST for part in encoded.split(b"/")),
        "a part has the name of an unfinished file": any(map(unfinished, parts)),
    }
    return next((problem for problem, found in problems.items() if found), None)
