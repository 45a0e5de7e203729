"""What goes wrong where things are kept."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

_WORDS: Final = {
    errno.ENOSPC: "there is no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "the operation is not permitted",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "there is already something of that name",
    errno.EISDIR: "there is a folder of that name",
    errno.ENOTEMPTY: "there is a folder of that name",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "the file is larger than the file system or a limit allows",
}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class StorageError(OSError):
    """Something cannot be kept, read or removed. The message names the path; so does :attr:`filename`."""

    def __init__(self, path: Path | str, message: str, number: int | None = None) -> None:
        super().__init__(number, message, str(path))
        self.message = message

    def __str__(self) -> str:
        return f"{self.filename}: {self.message}"

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, str, int | None]]:
        """Let a worker process hand the error back whole."""
        return type(self), (self.filename, self.message, self.errno)


class MissingObjectError(StorageError, FileNotFoundError):
    """There is no object under the key."""


def storage_error(path: Path, error: OSError, doing: str, *, needed: int | None = None) -> StorageError:
    """Return the error to raise for one of the operating system's.

    Args:
        path: what was being worked on.
        error: what the operating system said.
        doing: what was being done, such as ``"write"``.
        needed: bytes that had to fit, named where the disk is full.
    """
    why = _WORDS.get(error.errno or 0) or (error.strerror or str(error)).lower()
    if error.errno in _FULL and needed is not None:
        why += f": {size(needed)} needed{_free(path)}"
    return StorageError(path, f"cannot {doing} this: {why}", error.errno)


def size(number: int) -> str:
    """Return a number of bytes as a person reads it: ``1.2 GB``, in powers of 1,000."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 999.5:  # noqa: PLR2004 (what would be shown as 1000)
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"


def _free(path: Path) -> str:
    for one in (path, *path.parents):
        try:
            return f", {size(shutil.disk_usage(one).free)} free"
        except OSError:
            continue
    return ""
