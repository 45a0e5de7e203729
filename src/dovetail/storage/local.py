"""A store in a folder of this machine."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import BinaryIO, Final, final

from dovetail.storage.atomic import make_folder, reap, sync_folder, unfinished, write_atomic
from dovetail.storage.errors import MissingObjectError, StorageError, storage_error
from dovetail.storage.keys import check_key

_TRIES: Final = 10  # times that a folder which a concurrent delete empties is made again


@final
class LocalStorage:
    """Keeps each object as a file under a folder, its key being its path there.

    An object appears and changes whole or not at all, and is on the disk when ``put`` returns. Symbolic links under
    the folder are refused, so that no key leads out of it. As in any file system, ``a`` and ``a/b`` cannot both be
    objects.

    Args:
        path: the folder; made if it does not exist. Leftovers of writers that died are removed from it.

    Raises:
        StorageError: the folder cannot be made, or there is a file in its place.
    """

    def __init__(self, *, path: Path) -> None:
        self.path = Path(path).expanduser().absolute()
        try:
            make_folder(self.path)
            for folder, _, _ in os.walk(self.path):
                reap(Path(folder))
        except OSError as error:
            raise storage_error(self.path, error, "make a store of") from error

    def __repr__(self) -> str:
        return f"LocalStorage(path={str(self.path)!r})"

    def put(self, key: str, source: Path | bytes) -> None:
        """Store a file's content, or bytes, under ``key``, replacing what was there.

        Raises:
            ValueError: the key is not allowed.
            StorageError: it cannot be stored; what was there before is untouched.
        """
        path = self._locate(key)
        if isinstance(source, Path) and not source.is_file():
            raise StorageError(source, "cannot store this: it is not a file", errno.ENOENT)
        needed = source.stat().st_size if isinstance(source, Path) else len(source)
        try:
            self._write(path, source)
        except OSError as error:
            raise storage_error(path, error, "write", needed=needed) from error

    def _write(self, path: Path, source: Path | bytes) -> None:
        for attempt in range(_TRIES):
            try:
                make_folder(path.parent)
                if path.is_dir():
                    path.rmdir()  # left empty by a put that failed; one with objects in it stays, and the put fails
                write_atomic(path, source)
            except (FileNotFoundError, FileExistsError):
                # delete() of the last neighbour took the folder away after it was made, or while it was looked at:
                # mkdir() found it there, and it was no folder any more when that was checked.
                if attempt == _TRIES - 1:
                    raise
            else:
                return

    def open(self, key: str) -> BinaryIO:
        """Open the object under ``key`` for reading. A put or delete meanwhile does not disturb the reader.

        Raises:
            ValueError: the key is not allowed.
            MissingObjectError: there is no such object; it is a FileNotFoundError too.
            StorageError: it cannot be read.
        """
        path = self._locate(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(path) from error
        except OSError as error:
            raise storage_error(path, error, "read") from error
        if not path.is_file():
            os.close(descriptor)
            raise _missing(path)
        return os.fdopen(descriptor, "rb")

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, sorted. Unfinished files and links are not among them.

        Raises:
            StorageError: a folder cannot be read.
        """
        keys = []
        for folder, folders, files in os.walk(self.path, onerror=_refuse):
            relative = Path(folder).relative_to(self.path)
            folders[:] = [name for name in folders if not unfinished(name) and _leads_to((relative / name), prefix)]
            keys += [
                key
                for name in files
                if not unfinished(name)
                and (key := (relative / name).as_posix()).startswith(prefix)
                and not (Path(folder) / name).is_symlink()
            ]
        return sorted(keys)

    def delete(self, key: str) -> None:
        """Remove the object under ``key``.

        Raises:
            ValueError: the key is not allowed.
            MissingObjectError: there is no such object.
            StorageError: it cannot be removed.
        """
        path = self._locate(key)
        if not path.is_file():
            raise _missing(path)
        try:
            path.unlink()
            with contextlib.suppress(FileNotFoundError):  # a concurrent delete may take the folder away
                sync_folder(path.parent)
        except FileNotFoundError as error:
            raise _missing(path) from error
        except OSError as error:
            raise storage_error(path, error, "remove") from error
        # A folder without objects is no object: it must not stand in the way of a key of its name.
        for folder in path.parents:
            if folder == self.path:
                break
            with contextlib.suppress(OSError):
                folder.rmdir()

    def exists(self, key: str) -> bool:
        """Say whether there is an object under ``key``.

        Raises:
            ValueError: the key is not allowed.
        """
        return self._locate(key).is_file()

    def _locate(self, key: str) -> Path:
        path = self.path
        for part in check_key(key).split("/"):
            path = path / part
            if path.is_symlink():
                raise StorageError(path, "this is a symbolic link, which might lead out of the store", errno.ELOOP)
        return path


def _missing(path: Path) -> MissingObjectError:
    return MissingObjectError(path, "there is no such object", errno.ENOENT)


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a concurrent delete may take a folder away
        raise storage_error(Path(error.filename), error, "list") from error


def _leads_to(folder: Path, prefix: str) -> bool:
    """Say whether keys under ``folder`` can start with ``prefix``."""
    start = f"{folder.as_posix()}/"
    return start.startswith(prefix) or prefix.startswith(start)
