"""Storage backends."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO


class Vault:
    """Stores objects as rows of an SQLite database; a transaction makes each write atomic."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with self._database() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, content BLOB NOT NULL)")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as database, database:
                yield database
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path}: {error}") from error

    def put(self, key: str, source: Path | bytes) -> None:
        """Store an object."""
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        with self._database() as database:
            database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?)", (_checked(key), content))

    def open(self, key: str) -> BinaryIO:
        """Open an object."""
        with self._database() as database:
            found = database.execute("SELECT content FROM objects WHERE key = ?", (_checked(key),)).fetchone()
        if found is None:
            raise FileNotFoundError(key)
        return io.BytesIO(found[0])

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``."""
        with self._database() as database:
            found = database.execute("SELECT key FROM objects ORDER BY key").fetchall()
        return sorted(key for (key,) in found if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._database() as database:
            if not database.execute("DELETE FROM objects WHERE key = ?", (_checked(key),)).rowcount:
                raise FileNotFoundError(key)

    def exists(self, key: str) -> bool:
        """Return whether an object exists."""
        with self._database() as database:
            return database.execute("SELECT 1 FROM objects WHERE key = ?", (_checked(key),)).fetchone() is not None


def _checked(key: str) -> str:
    if any(part in {"", ".", ".."} or len(part) > 255 for part in key.split("/")) or "\0" in key:
        raise ValueError(f"{key!r} is no key")
    return key
