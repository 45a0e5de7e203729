"""Errors of storage backends and of files, in words that say what failed and what was missing."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

_REASONS: Final = {
    errno.ENOSPC: "there is no space left on the disk",
    errno.EDQUOT: "the disk quota is exhausted",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "the operation is not permitted",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "something with this name already exists",
    errno.EISDIR: "a folder with this name already exists",
    errno.ENOTEMPTY: "a folder with this name already exists",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "the file is larger than the file system or a limit allows",
}
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class StorageError(OSError):
    """An object or file cannot be written, read or removed. The message names the path; so does :attr:`filename`."""

    def __init__(self, path: Path | str, message: str, number: int | None = None) -> None:
        super().__init__(number, message, str(path))
        self.message = message

    def __str__(self) -> str:
        return f"{self.filename}: {self.message}"

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, str, int | None]]:
        """Pickle all fields, so that a worker process can send the error to its parent."""
        return type(self), (self.filename, self.message, self.errno)


class MissingObjectError(StorageError, FileNotFoundError):
    """There is no object under the key."""


def storage_error(path: Path, error: OSError, verb: str, *, needed: int | None = None) -> StorageError:
    """Return the :class:`StorageError` for an error of the operating system.

    Args:
        path: the file or folder that the operation was about.
        error: the operating system's error.
        verb: what failed, such as ``"write"``.
        needed: number of bytes to write; if the disk is full, the message shows it beside the free space.
    """
    reason = _REASONS.get(error.errno or 0) or (error.strerror or str(error)).lower()
    if error.errno in _DISK_FULL and needed is not None:
        reason += f": {format_bytes(needed)} needed{_free_space(path)}"
    return StorageError(path, f"cannot {verb} this: {reason}", error.errno)


def format_bytes(number: int) -> str:
    """Return a number of bytes for people to read, such as ``1.2 GB``, in powers of 1,000."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 999.5:  # noqa: PLR2004 (would be shown as 1000)
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"


def _free_space(path: Path) -> str:
    for folder in (path, *path.parents):
        try:
            return f", {format_bytes(shutil.disk_usage(folder).free)} free"
        except OSError:
            continue
    return ""
