"""What goes wrong with checkpoints."""

from __future__ import annotations

from pathlib import Path


class CheckpointError(Exception):
    """A checkpoint is not whole, not valid or not there. The message names the file at fault; so does :attr:`path`.

    :attr:`tensor` is the name of the tensor at fault in that file, where it is known.
    """

    def __init__(self, path: Path, message: str, tensor: str | None = None) -> None:
        super().__init__(path, message, tensor)
        self.path = path
        self.message = message
        self.tensor = tensor

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"
