"""Files of lines that a run appends to, which go back with the run when it is resumed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

_logger: Final = logging.getLogger("dovetail.record")


@final
class LineFile:
    """A file of a part of a run; ``state_dict`` says how much of it is the run's."""

    def __init__(self, path: Path) -> None:
        """Name the file; a relative path is inside the run's folder."""
        self.path = path
        self._size = 0

    def open(self, folder: Path) -> None:
        """Find the file and make it, and those above it.

        A file inside the run's folder is the run's alone: what it wrote there after the checkpoint that it goes on from
        is cut off. Elsewhere others may write too, so nothing is.

        Raises:
            OSError: it cannot be written.
        """
        self.path = folder / self.path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        if self.path.resolve().is_relative_to(folder.resolve()):
            rewind(self.path, self._size)

    def append(self, line: str) -> None:
        """Write a line, which ends with its line break.

        Raises:
            OSError: it cannot be written.
        """
        data = line.encode()
        with self.path.open("ab") as file:
            file.write(data)
        self._size += len(data)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"size": self._size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, once the file is opened."""
        self._size = state["size"]


def rewind(path: Path, size: int) -> None:
    """Cut a file of lines back to ``size`` bytes; one that is not there stays so.

    A file that is shorter has lost lines, which is said in the log: they cannot be had back.
    """
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        found = os.fstat(file.fileno()).st_size
        if found > size:
            file.truncate(size)
            os.fsync(file.fileno())
        elif found < size:
            _logger.warning("%s has lost %d bytes since the checkpoint; it goes on as it is", path, size - found)
