"""Files and folders that appear complete or not at all: written under a temporary name, flushed, then renamed.

A temporary name begins with :data:`PREFIX`, and the writer holds a lock on the file or folder. A killed writer loses
its lock, so leftovers can be told from files still being written, even by another container on the same disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

#: The prefix of every temporary name.
PREFIX: Final = ".dovetail-tmp-"

_MIN_AGE: Final = 60.0  # seconds: a new file may not be locked yet
_CHUNK: Final = 1 << 20


def is_temporary(name: str) -> bool:
    """Return whether ``name`` belongs to a file or folder that is being written, or was left by a killed writer."""
    return name.startswith(PREFIX)


def write_atomic(path: Path, source: Path | bytes) -> None:
    """Write the content of ``source`` to ``path``, replacing any existing file; the parent folder must exist.

    On return, the file is on the disk. If writing fails, or the process or machine dies, the previous file is intact.

    Raises:
        OSError: from the operating system.
    """
    with staged_file(path) as file:
        if isinstance(source, Path):
            with source.open("rb", buffering=0) as opened:
                while chunk := opened.read(_CHUNK):
                    write_all(file, chunk)
        else:
            write_all(file, source)


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[BinaryIO]:
    """Yield an empty, unbuffered file that replaces ``path`` when the block ends, and is removed if the block raises.

    Raises:
        OSError: from the operating system.
    """
    temporary = path.with_name(PREFIX + secrets.token_hex(8))
    try:
        with temporary.open("xb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            os.fsync(file.fileno())
            # Rename while still locked, so that remove_leftovers() never takes the file for a leftover.
            os.replace(temporary, path)  # noqa: PTH105 (tests inject faults into os.replace)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of ``data`` to an unbuffered file, in as many calls as the system needs."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def sync_file(path: Path) -> None:
    """Flush to the disk a file that was written through another handle."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk; without it, a power failure may undo a rename."""
    sync_file(path)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, and flush their entries to the disk.

    Raises:
        OSError: from the operating system.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_folder(folder.parent)


@contextlib.contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``path`` when the block ends, and is removed if the block raises.

    ``path`` must not exist. The caller flushes the files that it puts into the folder.

    Raises:
        FileExistsError: ``path`` exists, even as an empty folder.
        OSError: from the operating system.
    """
    staging = path.with_name(PREFIX + secrets.token_hex(8))
    staging.mkdir()
    try:
        with _locked(staging):
            yield staging
            sync_folder(staging)
            _rename_new(staging, path)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(path.parent)


def _rename_new(staging: Path, path: Path) -> None:
    if os.path.lexists(path):  # rename() itself would replace an empty folder
        raise FileExistsError(errno.EEXIST, "File exists", str(path))
    os.rename(staging, path)  # noqa: PTH104 (tests inject faults into os.rename)


def remove_folder(path: Path) -> None:
    """Remove a folder without ever showing it half removed: rename it to a temporary name, then delete it.

    Raises:
        OSError: from the operating system.
    """
    doomed = path.with_name(PREFIX + secrets.token_hex(8))
    os.rename(path, doomed)  # noqa: PTH104 (tests inject faults into os.rename)
    sync_folder(path.parent)
    with contextlib.suppress(FileNotFoundError):  # another process may remove it as a leftover
        shutil.rmtree(doomed)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files and folders that killed writers left directly in ``folder``, and return their paths.

    Entries that are locked, less than a minute old, or cannot be removed stay.
    """
    removed = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            if _is_leftover(path):
                if stat.S_ISDIR(path.lstat().st_mode):
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed.append(path)
    return removed


def _is_leftover(path: Path) -> bool:
    if abs(time.time() - path.lstat().st_mtime) < _MIN_AGE:
        return False
    if path.is_symlink():
        return True
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
