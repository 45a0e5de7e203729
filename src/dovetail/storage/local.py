"""Storage in a local folder."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import BinaryIO, Final, final

from dovetail.storage.atomic import is_temporary, make_folder, remove_leftovers, sync_folder, write_atomic
from dovetail.storage.errors import MissingObjectError, StorageError, storage_error

_MAX_NAME: Final = 255  # bytes: the limit of file systems for one name
_ATTEMPTS: Final = 10  # to create a folder that concurrent deletes remove


@final
class LocalStorage:
    """Stores each object as a file in a folder; the key is the file's path relative to that folder.

    An object appears and changes atomically, and is on the disk when ``put`` returns. Symbolic links below the folder
    are refused, so that no key leads out of it. As in any file system, ``a`` and ``a/b`` cannot both be objects.

    Args:
        path: the folder; created if missing. Leftovers of killed writers are removed.

    Raises:
        StorageError: the folder cannot be created, or a file is in its place.
    """

    def __init__(self, *, path: Path) -> None:
        self.path = Path(path).expanduser().absolute()
        try:
            make_folder(self.path)
            for folder, _, _ in os.walk(self.path):
                remove_leftovers(Path(folder))
        except OSError as error:
            raise storage_error(self.path, error, "create") from error

    def __repr__(self) -> str:
        return f"LocalStorage(path={str(self.path)!r})"

    def put(self, key: str, source: Path | bytes) -> None:
        """Store a file's content, or bytes, under ``key``, replacing any existing object.

        Raises:
            ValueError: the key is invalid.
            StorageError: the object cannot be stored; the previous one is intact.
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
        for attempt in range(_ATTEMPTS):
            try:
                make_folder(path.parent)
                if path.is_dir():
                    path.rmdir()  # a failed put left it empty; rmdir() and the put fail if it holds objects
                write_atomic(path, source)
            except (FileNotFoundError, FileExistsError):
                # A concurrent delete() of the folder's last object removed the folder: after make_folder(), or between
                # mkdir(), which found it, and the check that it is a folder.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def open(self, key: str) -> BinaryIO:
        """Open the object under ``key`` for reading. A concurrent put or delete does not affect the reader.

        Raises:
            ValueError: the key is invalid.
            MissingObjectError: there is no such object; also a FileNotFoundError.
            StorageError: the object cannot be read.
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
        """Return the keys that start with ``prefix``, sorted, without temporary files and symbolic links.

        Raises:
            StorageError: a folder cannot be read.
        """
        keys = []
        for folder, folders, files in os.walk(self.path, onerror=_raise):
            relative = Path(folder).relative_to(self.path)
            folders[:] = [name for name in folders if not is_temporary(name) and _may_hold(relative / name, prefix)]
            keys += [
                key
                for name in files
                if not is_temporary(name)
                and (key := (relative / name).as_posix()).startswith(prefix)
                and not (Path(folder) / name).is_symlink()
            ]
        return sorted(keys)

    def delete(self, key: str) -> None:
        """Remove the object under ``key``.

        Raises:
            ValueError: the key is invalid.
            MissingObjectError: there is no such object.
            StorageError: the object cannot be removed.
        """
        path = self._locate(key)
        if not path.is_file():
            raise _missing(path)
        try:
            path.unlink()
            with contextlib.suppress(FileNotFoundError):  # a concurrent delete may have removed the folder
                sync_folder(path.parent)
        except FileNotFoundError as error:
            raise _missing(path) from error
        except OSError as error:
            raise storage_error(path, error, "remove") from error
        # Remove empty folders, so that they do not block keys with their names.
        for folder in path.parents:
            if folder == self.path:
                break
            with contextlib.suppress(OSError):
                folder.rmdir()

    def exists(self, key: str) -> bool:
        """Return whether there is an object under ``key``.

        Raises:
            ValueError: the key is invalid.
        """
        return self._locate(key).is_file()

    def _locate(self, key: str) -> Path:
        path = self.path
        for part in check_key(key).split("/"):
            path = path / part
            if path.is_symlink():
                raise StorageError(path, "this is a symbolic link, which may lead out of the folder", errno.ELOOP)
        return path


def _missing(path: Path) -> MissingObjectError:
    return MissingObjectError(path, "there is no such object", errno.ENOENT)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a concurrent delete may have removed the folder
        raise storage_error(Path(error.filename), error, "list") from error


def _may_hold(folder: Path, prefix: str) -> bool:
    """Return whether keys under ``folder`` can start with ``prefix``."""
    start = f"{folder.as_posix()}/"
    return start.startswith(prefix) or prefix.startswith(start)


def check_key(key: str) -> str:
    """Return ``key`` if every storage backend can take it: a relative path with ``/`` between its parts.

    Raises:
        ValueError: the key is empty, absolute, holds a NUL character or is not valid UTF-8; or one of its parts is
            empty, ``.``, ``..``, longer than 255 bytes in UTF-8, or a temporary name. The message shows the key.
    """
    problem = _key_problem(key)
    if problem:
        shown = key if len(key) <= 80 else f"{key[:80]}…"  # noqa: PLR2004 (enough to recognise it)
        raise ValueError(f"key {shown!r}: {problem}")
    return key


def _key_problem(key: str) -> str | None:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it cannot be written in UTF-8"
    parts = key.split("/")
    problems = {
        "it is empty": not key,
        "it holds a NUL character": "\0" in key,
        "it must be relative, not start with '/'": key.startswith("/"),
        "a part is empty": "" in parts,
        "'.' and '..' are not allowed as parts": "." in parts or ".." in parts,
        f"a part is longer than {_MAX_NAME} bytes": any(len(part) > _MAX_NAME for part in encoded.split(b"/")),
        "a part is the name of a temporary file": any(map(is_temporary, parts)),
    }
    return next((problem for problem, found in problems.items() if found), None)
