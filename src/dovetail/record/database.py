"""An SQLite file of ours: opened, checked, brought up to date, and shared with other processes."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

_PAUSE: Final = 0.02
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class DatabaseError(RuntimeError):
    """A database cannot be used, or lacks what was asked for; the message names the file, which is left as it is."""


class Database:
    """An SQLite file, which is made if it is not there.

    Many processes may use one file at once: it is kept in write-ahead mode, and each waits for the others, for a
    bounded time.
    """

    def __init__(self, path: Path, *, application: bytes, migrations: Sequence[str], timeout: float) -> None:
        """Open the file.

        Args:
            path: the file; the folders above it are made.
            application: four bytes that mark a file in its header as one of this kind.
            migrations: one script per schema version, applied in order; one that has been released is never edited.
            timeout: seconds to wait for other processes, each time.

        Raises:
            DatabaseError: it is damaged, is another program's, comes from a newer Dovetail, cannot be opened, or is
                held by another process for longer than ``timeout``.
        """
        self.path, self._timeout, self._migrations = path, timeout, tuple(migrations)
        self._application = int.from_bytes(application, "big")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{path}: cannot make its folder: {(error.strerror or str(error)).lower()}") from error
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def read(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query.

        Raises:
            DatabaseError: the file cannot be read.
        """
        with self._explained():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, inside a transaction: all that is done with it is kept, or none of it.

        Raises:
            DatabaseError: the file cannot be written.
        """
        with self._explained():
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
        """Look whether the file is ours and whole, before anything is written to it, and bring it up to date."""
        # Read inside one transaction: another process may be making the file at this moment.
        self._connection.execute("BEGIN")
        try:
            version = self._known_version()
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            with contextlib.suppress(sqlite3.Error):  # of a damaged file
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
            DatabaseError: it is another program's, or comes from a newer Dovetail.
        """
        version, known = self._pragma("user_version"), len(self._migrations)
        ours = self._pragma("application_id") == self._application
        # A new file is empty, and so is one whose maker was killed before it wrote.
        if not ours and (version or self._pragma("schema_version")):
            raise DatabaseError(f"{self.path} is another program's database; give another path")
        if version > known:
            raise DatabaseError(
                f"{self.path} was written by a newer Dovetail (schema {version}, this one knows {known}); "
                "upgrade Dovetail, or give another path"
            )
        return version

    def _migrate(self) -> None:
        with self.writing() as connection:
            # Another process may have done it while this one waited.
            for script in self._migrations[self._known_version() :]:
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._application}")
            connection.execute(f"PRAGMA user_version = {len(self._migrations)}")

    def _use_write_ahead_log(self) -> None:
        """Let readers and a writer work at once, where the file system can; SQLite itself does not wait for this."""
        until = time.monotonic() + self._timeout
        while self._connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)
        # A power cut may then cost the last figures, and never the file.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _BUSY:
                raise DatabaseError(f"{self.path}: another process has held it for {self._timeout:g} s") from error
            if code in _DAMAGED:
                raise self._damaged(str(error)) from error
            raise DatabaseError(f"{self.path}: {error}") from error

    def _damaged(self, why: str) -> DatabaseError:
        return DatabaseError(
            f"{self.path} is damaged or no database ({why}); it is left as it is: move it away, or give another path"
        )
