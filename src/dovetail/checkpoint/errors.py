"""What goes wrong with checkpoints."""

from __future__ import annotations

from pathlib import Path


class CheckpointError(Exception):
    """A checkpoint is not whole, not valid or not there. The message names the file at fault; so does :attr:`path`."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(path, message)
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"
