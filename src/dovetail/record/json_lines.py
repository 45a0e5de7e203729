"""Files of JSON lines that a run appends to, and that are truncated when the run resumes from a checkpoint."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

_logger: Final = logging.getLogger("dovetail.record")
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@final
class LineFile:
    """A file of lines that belongs to a part of a run; its ``state_dict`` says how many bytes the run has written."""

    def __init__(self, path: Path) -> None:
        """Name the file; a relative path is inside the run's folder."""
        self.path = path
        self._size = 0

    def open(self, folder: Path) -> None:
        """Create the file and the folders above it.

        A file inside the run's folder belongs to this run alone, so lines written after the checkpoint are cut off.
        A file elsewhere may have other writers and is not truncated.

        Raises:
            OSError: the file cannot be written.
        """
        self.path = folder / self.path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        if self.path.resolve().is_relative_to(folder.resolve()):
            truncate(self.path, self._size)

    def append(self, line: str) -> None:
        """Append a line, which includes its line break.

        Raises:
            OSError: the file cannot be written.
        """
        data = line.encode()
        with self.path.open("ab") as file:
            file.write(data)
        self._size += len(data)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of bytes written."""
        return {"size": self._size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the number of bytes written; :meth:`open` then truncates the file to it."""
        self._size = state["size"]


def truncate(path: Path, size: int) -> None:
    """Truncate a file to ``size`` bytes, if it exists.

    A shorter file has lost lines that cannot be restored: a warning is logged.
    """
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        found = os.fstat(file.fileno()).st_size
        if found > size:
            file.truncate(size)
            os.fsync(file.fileno())
        elif found < size:
            _logger.warning("%s has lost %d bytes since the checkpoint; new lines are appended", path, size - found)


def event_line(event: str, *, epoch: int, step: int, time: float, metrics: Mapping[str, Any]) -> str:
    """Return an event as a line of ``metrics.jsonl``.

    Args:
        event: ``"train"``, ``"validation"``, ``"epoch"``, ``"test"`` or ``"monitor"``.
        epoch: the current epoch, counted from 1.
        step: optimizer updates so far.
        time: seconds since the run's start.
        metrics: values by name.
    """
    line = {"event": event, "epoch": epoch, "step": step, "time": round(time, 6), "metrics": metrics}
    try:
        return _encode(line) + "\n"
    except (TypeError, ValueError):  # a value that is not finite, or not JSON: rare, and slow to search for
        return _encode(jsonable(line)) + "\n"


def jsonable(value: Any) -> Any:
    """Return ``value`` with everything replaced that JSON cannot represent.

    NaN and infinities become ``"nan"``, ``"inf"`` and ``"-inf"``; other types, such as paths, become text.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
