"""Files and folders that appear whole or not at all: written beside their place, flushed, then renamed into it.

What is being written has a name that begins with :data:`PREFIX` and is locked by its writer. A killed writer's lock
goes with it, so what is left over can be told from what is still being written, also by another container on the
same disk.
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

#: How the name of everything unfinished begins.
PREFIX: Final = ".dovetail-tmp-"

_YOUNG: Final = 60.0  # seconds: what was made just now may not be locked yet
_CHUNK: Final = 1 << 20


def unfinished(name: str) -> bool:
    """Say whether ``name`` is that of something still being written, or left over by a writer that died."""
    return name.startswith(PREFIX)


def write_atomic(path: Path, source: Path | bytes) -> None:
    """Make ``path`` a file with the content of ``source``, replacing what was there; its folder must exist.

    When this returns, the file is on the disk. When it fails, or the process or machine dies, what was there before is.

    Raises:
        OSError: what the operating system says.
    """
    with staged_file(path) as file:
        _fill(file, source)


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[BinaryIO]:
    """Yield an empty, unbuffered file to fill; on leaving, it takes the place of ``path``. On an error it is removed.

    Raises:
        OSError: what the operating system says.
    """
    temporary = path.with_name(PREFIX + secrets.token_hex(8))
    try:
        with temporary.open("xb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            os.fsync(file.fileno())
            # Still locked: what is renamed is never mistaken for a leftover.
            os.replace(temporary, path)  # noqa: PTH105 (as every call here that faults are injected into)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _fill(file: BinaryIO, source: Path | bytes) -> None:
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as other:
            while chunk := other.read(_CHUNK):
                write_all(file, chunk)
    else:
        write_all(file, source)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of ``data`` to an unbuffered file, however much of it the system takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def sync_file(path: Path) -> None:
    """Flush a file that something else has written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's list of names to the disk: without it a rename may be undone when the power fails."""
    sync_file(path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and flush their names to the disk.

    Raises:
        OSError: what the operating system says.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in reversed(missing):
        sync_folder(one.parent)


@contextlib.contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on leaving, it becomes ``path``, which must not exist. On an error it is removed.

    Files put in it must be flushed by whoever puts them there.

    Raises:
        OSError: what the operating system says; FileExistsError where there is something at ``path``.
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
    # rename() itself would take the place of an empty folder.
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "File exists", str(path))
    os.rename(staging, path)  # noqa: PTH104 (as in write_atomic)


def remove_folder(path: Path) -> None:
    """Remove a folder so that it is never seen half removed: renamed away first, then deleted.

    Raises:
        OSError: what the operating system says.
    """
    doomed = path.with_name(PREFIX + secrets.token_hex(8))
    os.rename(path, doomed)  # noqa: PTH104 (as in write_atomic)
    sync_folder(path.parent)
    with contextlib.suppress(FileNotFoundError):  # somebody may be reaping it at the same time
        shutil.rmtree(doomed)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def reap(folder: Path) -> list[Path]:
    """Remove what writers that died have left directly in ``folder``, and return it.

    Kept is what somebody has locked, what is less than a minute old, and what cannot be removed.
    """
    reaped = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            if _abandoned(path):
                _remove(path)
                reaped.append(path)
    return reaped


def _abandoned(path: Path) -> bool:
    if abs(time.time() - path.lstat().st_mtime) < _YOUNG:
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


def _remove(path: Path) -> None:
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()
