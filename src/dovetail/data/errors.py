"""What is wrong with data, and where in it."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class DataError(ValueError):
    """Data cannot be used. The message names the file and, where one is at fault, the row."""

    @classmethod
    def at(cls, path: Path, message: str, *, line: int | None = None) -> Self:
        """Return the error for a place in a file; ``line`` counts from 1 as editors do."""
        return cls(f"{path}:{line}: {message}" if line is not None else f"{path}: {message}")


class LoaderWorkerError(RuntimeError):
    """A process that loads data died."""


def count(number: int, noun: str) -> str:
    """Return ``number`` and ``noun`` in the right number: "1 row", "4,177 rows"."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def listing(names: list[str] | tuple[str, ...], *, most: int = 8) -> str:
    """Return up to ``most`` names, quoted, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def existing_file(path: Path) -> Path:
    """Return ``path``, expanded.

    Raises:
        FileNotFoundError: there is nothing there.
        DataError: it is not a file.
    """
    path = path.expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file{_nearby(path)}")
    if not path.is_file():
        raise DataError.at(path, "this is a folder; a file is needed" if path.is_dir() else "this is not a file")
    return path


def _nearby(path: Path) -> str:
    """Say how far down the path exists: a missing file is mostly a wrong folder."""
    parent = next((one for one in path.parents if one.exists()), None)
    if parent is None or parent == path.parent:
        return ""
    return f" (the folder {path.parent} does not exist)"
