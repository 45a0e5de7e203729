"""A storage that hangs or fails, for tests of copies."""

from __future__ import annotations

import threading

from dovetail.storage.local import LocalStorage


class Unsteady:
    """A storage that blocks until it is opened, or refuses to put."""

    def __init__(self, path) -> None:
        self.inner = LocalStorage(path=path)
        self.opened = threading.Event()
        self.refusals = 0
        self.tries = 0

    def put(self, key, source):
        """Put once the storage is open, or refuse."""
        self.tries += 1
        if self.refusals:
            self.refusals -= 1
            raise OSError("the network is down")
        self.opened.wait()
        self.inner.put(key, source)

    def open(self, key):
        """Open an object."""
        return self.inner.open(key)

    def list(self, prefix=""):
        """List keys."""
        return self.inner.list(prefix)

    def delete(self, key):
        """Delete an object."""
        self.inner.delete(key)

    def exists(self, key):
        """Return whether an object exists."""
        return self.inner.exists(key)
