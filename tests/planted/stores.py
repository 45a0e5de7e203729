"""A sound store, and stores with one defect each."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath


def _check(key):
    parts = key.split("/")
    if any(part in {"", ".", ".."} or len(part) > 255 for part in parts) or "\0" in key:
        raise ValueError(f"{key!r} is not a valid key")


class TrustingStore:
    """Accepts any key. Otherwise sound: a folder with atomic writes."""

    def __init__(self, path: Path):
        self.root = Path(path)
        self.root.mkdir(parents=True, exist_ok=True)

    def _path(self, key):
        return self.root / key

    def put(self, key, source):
        """Store an object through a temporary file beside the store."""
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write(path, content)

    def _write(self, path, content):
        handle, name = tempfile.mkstemp(dir=self.root.parent, prefix=f"{self.root.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise

    def open(self, key):
        """Open an object."""
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        return path.open("rb")

    def list(self, prefix=""):
        """Return the keys that start with ``prefix``."""
        return sorted(key for key in self._keys() if key.startswith(prefix))

    def _keys(self):
        return [str(PurePosixPath(path.relative_to(self.root))) for path in self.root.rglob("*") if path.is_file()]

    def delete(self, key):
        """Remove an object."""
        self.open(key).close()
        self._path(key).unlink()

    def exists(self, key):
        """Return whether an object exists."""
        return self._path(key).is_file()


class SoundStore(TrustingStore):
    """The same, with validated keys."""

    def _path(self, key):
        _check(key)
        return super()._path(key)


class HalfStore(SoundStore):
    """Writes an object in place, so readers see a part of it."""

    def _write(self, path, content):
        with path.open("wb") as file:
            for start in range(0, len(content), 65536):
                file.write(content[start : start + 65536])


class CopyingStore(SoundStore):
    """Copies a file in place."""

    def put(self, key, source):
        """Store an object."""
        if isinstance(source, bytes):
            super().put(key, source)
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as origin, path.open("wb") as target:
            shutil.copyfileobj(origin, target)


class StoreThatShowsItsWork(SoundStore):
    """Writes to a temporary file inside the store."""

    def _write(self, path, content):
        beside = path.with_name(f"{path.name}.part")
        beside.write_bytes(content)
        beside.replace(path)


class StoreThatListsFolders(SoundStore):
    """Treats a prefix as a folder."""

    def list(self, prefix=""):
        """Return the keys in the folder ``prefix``."""
        folder = prefix.rstrip("/")
        return sorted(key for key in self._keys() if not folder or key.startswith(f"{folder}/"))


class StoreThatYieldsKeys(SoundStore):
    """Returns its keys as a generator."""

    def list(self, prefix=""):
        """Yield the keys that start with ``prefix``."""
        yield from super().list(prefix)
