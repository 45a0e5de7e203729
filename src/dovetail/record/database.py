"""An SQLite file with a schema version: opened, checked, migrated, and used by many processes at once."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

_RETRY_SECONDS: Final = 0.02
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class DatabaseError(RuntimeError):
    """A database cannot be used, or has no such entry. The message names the file; the file is not changed."""


class Database:
    """An SQLite file, created if it does not exist.

    Many processes may use the file at once: it is in write-ahead-log mode, and each process waits up to a timeout for
    the others.
    """

    def __init__(self, path: Path, *, application: bytes, migrations: Sequence[str], timeout: float) -> None:
        """Open the file.

        Args:
            path: the file; missing folders above it are created.
            application: four bytes that identify this kind of file in its header.
            migrations: one script per schema version, applied in order; a released script is never edited.
            timeout: seconds to wait for other processes, per operation.

        Raises:
            DatabaseError: the file is damaged, belongs to another program, comes from a newer Dovetail, cannot be
                opened, or is locked by another process for longer than ``timeout``.
        """
        self.path, self._timeout, self._migrations = path, timeout, tuple(migrations)
        self._application = int.from_bytes(application, "big")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"{path}: cannot create its folder: {(error.strerror or str(error)).lower()}"
            ) from error
        with self._explain_errors():
            self._connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            with self._explain_errors():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def read(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query.

        Raises:
            DatabaseError: the file cannot be read.
        """
        with self._explain_errors():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction, which is committed at the end or rolled back on an error.

        Raises:
            DatabaseError: the file cannot be written.
        """
        with self._explain_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Check that the file is ours and intact before writing to it, then migrate it."""
        # Read inside one transaction: another process may be creating the file at this moment.
        self._connection.execute("BEGIN")
        try:
            version = self._known_version()
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            with contextlib.suppress(sqlite3.Error):  # the file is damaged
                self._connection.execute("ROLLBACK")
        if found != "ok":
            raise self._damaged(" ".join(found.split()))
        self._use_write_ahead_log()
        self._connection.execute("PRAGMA foreign_keys = ON")
        if version < len(self._migrations):
            self._migrate()

    def _known_version(self) -> int:
        """Return the schema version of the file, 0 for a new one.

        Raises:
            DatabaseError: the file belongs to another program or comes from a newer Dovetail.
        """
        version, known = self._pragma("user_version"), len(self._migrations)
        ours = self._pragma("application_id") == self._application
        # A new file is empty, and so is one whose creator was killed before its first write.
        if not ours and (version or self._pragma("schema_version")):
            raise DatabaseError(f"{self.path} is the database of another program; choose another path")
        if version > known:
            raise DatabaseError(
                f"{self.path} was written by a newer Dovetail (schema {version}, this one knows {known}); "
                "upgrade Dovetail, or choose another path"
            )
        return version

    def _migrate(self) -> None:
        with self.writing() as connection:
            # Another process may have migrated the file while this one waited.
            for script in self._migrations[self._known_version() :]:
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._application}")
            connection.execute(f"PRAGMA user_version = {len(self._migrations)}")

    def _use_write_ahead_log(self) -> None:
        """Let readers and a writer work at once, if the file system can. Retry, since SQLite does not wait here."""
        until = time.monotonic() + self._timeout
        while self._connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > until:
                    raise
                time.sleep(_RETRY_SECONDS)
        # A power cut may then lose the last metrics, but never damages the file.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    # --- errors ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _BUSY:
                raise DatabaseError(f"{self.path}: another process has locked it for {self._timeout:g} s") from error
            if code in _DAMAGED:
                raise self._damaged(str(error)) from error
            raise DatabaseError(f"{self.path}: {error}") from error

    def _damaged(self, why: str) -> DatabaseError:
        return DatabaseError(
            f"{self.path} is damaged or not a database ({why}); it was not changed. "
            "Move it away, or choose another path"
        )
