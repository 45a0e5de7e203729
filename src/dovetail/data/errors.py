"""Errors about data, and helpers that word their messages."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class DataError(ValueError):
    """Data cannot be used. The message names the file and, where a single row is at fault, the row."""

    @classmethod
    def at(cls, path: Path, message: str, *, line: int | None = None) -> Self:
        """Return an error that starts with its place, ``path:line``; ``line`` counts from 1, as editors do."""
        return cls(f"{path}:{line}: {message}" if line is not None else f"{path}: {message}")


class LoaderWorkerError(RuntimeError):
    """A loader worker process died."""


def count(number: int, noun: str) -> str:
    """Return ``number`` with ``noun`` in the singular or plural: "1 row", "4,177 rows"."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def listing(names: list[str] | tuple[str, ...], *, most: int = 8) -> str:
    """Return up to ``most`` names in quotes, followed by the number of names left out."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def existing_file(path: Path) -> Path:
    """Return ``path`` with ``~`` expanded.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the path is a folder or a special file.
    """
    path = path.expanduser()
    if not path.exists():
        # A missing folder is the more common mistake, so the message names it.
        hint = "" if path.parent.exists() else f" (the folder {path.parent} does not exist)"
        raise FileNotFoundError(f"{path}: no such file{hint}")
    if not path.is_file():
        raise DataError.at(path, "this is a folder; a file is needed" if path.is_dir() else "this is not a file")
    return path
