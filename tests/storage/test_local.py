"""Tests of LocalStorage: an object is complete or absent, whichever call fails or process dies."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dovetail.storage.atomic import PREFIX
from dovetail.storage.errors import MissingObjectError, StorageError
from dovetail.storage.local import LocalStorage, check_key
from small_disks import small_disk


def content(store: LocalStorage, key: str) -> bytes:
    """Return an object's bytes."""
    with store.open(key) as file:
        return file.read()


# --- keys -----------------------------------------------------------------------------------------------------------

GOOD_KEYS = ["a", "a/b/c.txt", "ä b/ü", "x" * 255, "é" * 127, "..a", "a..", "...", "a\\b", "a\nb", ".hidden"]
BAD_KEYS = {
    "": "it is empty",
    "/a": "must be relative",
    "a//b": "a part is empty",
    "a/": "a part is empty",
    ".": "'.' and '..'",
    "..": "'.' and '..'",
    "a/../b": "'.' and '..'",
    "../x": "'.' and '..'",
    "./a": "'.' and '..'",
    "a\0b": "NUL",
    "x" * 256: "longer than 255 bytes",
    "a/" + "é" * 128: "longer than 255 bytes",
    "\ud800": "UTF-8",
    f"{PREFIX}1": "temporary file",
    f"a/{PREFIX}1/b": "temporary file",
}


@pytest.mark.parametrize("key", GOOD_KEYS)
def test_a_valid_key_stores_an_object(tmp_path, key):
    """The object can be read and listed under its key."""
    store = LocalStorage(path=tmp_path)

    store.put(key, b"x")

    assert store.list() == [key]
    assert content(store, key) == b"x"


@pytest.mark.parametrize("key, message", BAD_KEYS.items())
def test_every_method_refuses_an_invalid_key(tmp_path, key, message):
    """Nothing is written anywhere."""
    store = LocalStorage(path=tmp_path / "store")

    for call in (
        lambda: store.put(key, b"x"),
        lambda: store.open(key),
        lambda: store.delete(key),
        lambda: store.exists(key),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert list(tmp_path.rglob("*")) == [tmp_path / "store"]


@given(st.text(max_size=20))
def test_check_key_accepts_or_raises_value_error(key):
    """No text makes it raise anything else."""
    try:
        assert check_key(key) == key
    except ValueError:
        assert not key or set(key) & set("/.\0") or key.startswith(PREFIX) or not key.isascii()


# --- against a dict -----------------------------------------------------------------------------------------------

keys = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


def blocked(key: str, keys: set[str]) -> bool:
    """Return whether a file system cannot hold ``key`` beside ``keys``, because one is a folder of another."""
    return any(other.startswith(f"{key}/") or key.startswith(f"{other}/") for other in keys)


class StoreMachine(RuleBasedStateMachine):
    """LocalStorage behaves as a dict does."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = LocalStorage(path=Path(self.folder.name) / "store")
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        """Remove the store."""
        self.folder.cleanup()

    @rule(key=keys, value=st.binary(max_size=20))
    def put(self, key, value):
        """Put, or expect an error if a folder and a file would have the same name."""
        if blocked(key, set(self.model)):
            with pytest.raises(StorageError, match="cannot write this"):
                self.store.put(key, value)
        else:
            self.store.put(key, value)
            self.model[key] = value

    @rule(key=keys)
    def delete(self, key):
        """Delete, or expect an error if the object is missing."""
        if key in self.model:
            self.store.delete(key)
            del self.model[key]
        else:
            with pytest.raises(FileNotFoundError, match="there is no such object"):
                self.store.delete(key)

    @rule(key=keys)
    def read(self, key):
        """Read, or expect an error if the object is missing."""
        assert self.store.exists(key) == (key in self.model)
        if key in self.model:
            assert content(self.store, key) == self.model[key]
        else:
            with pytest.raises(MissingObjectError):
                self.store.open(key)

    @rule(prefix=st.sampled_from(["", "a", "a/", "a/b", "b/c", "z"]))
    def list(self, prefix):
        """List by any prefix, which may end inside a part."""
        assert self.store.list(prefix) == sorted(key for key in self.model if key.startswith(prefix))

    @rule()
    def open_again(self):
        """Open the same folder again."""
        self.store = LocalStorage(path=self.store.path)

    @invariant()
    def no_leftovers(self):
        """Expect no temporary files."""
        assert not list(self.store.path.rglob(f"{PREFIX}*"))


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=30, stateful_step_count=25)


def test_putting_a_path_copies_the_file(tmp_path):
    """The file may be larger than one read; a missing file or a folder is refused."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_001))
    store = LocalStorage(path=tmp_path / "store")

    store.put("a/b", source)

    assert content(store, "a/b") == source.read_bytes()
    with pytest.raises(StorageError, match=r"absent: cannot store this: it is not a file"):
        store.put("a/c", tmp_path / "absent")
    with pytest.raises(StorageError, match="it is not a file"):
        store.put("a/c", tmp_path)


def test_an_open_object_outlives_put_and_delete(tmp_path):
    """A reader reads to the end the content that it opened."""
    store = LocalStorage(path=tmp_path)
    store.put("a", b"old")
    with store.open("a") as first:
        store.put("a", b"new")
        with store.open("a") as second:
            store.delete("a")
            assert (first.read(), second.read()) == (b"old", b"new")


def test_symbolic_links_are_refused(tmp_path):
    """They may point to a file or a folder, and are not listed either."""
    (tmp_path / "secret").write_bytes(b"secret")
    store = LocalStorage(path=tmp_path / "store")
    store.put("real/file", b"x")
    (store.path / "link").symlink_to(tmp_path / "secret")
    (store.path / "folder").symlink_to(tmp_path)

    for key in ("link", "folder/secret"):
        for call in (
            lambda key=key: store.put(key, b""),
            lambda key=key: store.open(key),
            lambda key=key: store.delete(key),
        ):
            with pytest.raises(StorageError, match="symbolic link"):
                call()
    assert store.list() == ["real/file"]
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_the_storage_folder_itself_may_be_a_link(tmp_path):
    """Only links below the folder are refused."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    LocalStorage(path=tmp_path / "link").put("a", b"x")

    assert (tmp_path / "real" / "a").read_bytes() == b"x"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    """The message shows its path."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError, match=r"file: cannot create this: something with this name already exists"):
        LocalStorage(path=tmp_path / "file")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        LocalStorage(path=tmp_path / "file" / "store")


# --- faults ---------------------------------------------------------------------------------------------------------

CALLS = ("write", "fsync", "replace")


class FailingOs:
    """Makes the nth call of one function of ``os`` fail."""

    def __init__(self, monkeypatch, name: str, nth: int, code: int = errno.EIO) -> None:
        self.left = nth
        real = getattr(os, name)

        def call(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("name", CALLS)
def test_a_failed_put_keeps_the_old_object(tmp_path, monkeypatch, name):
    """Reliability 2: for the first, second … call, until put makes no more calls."""
    for nth in range(1, 30):
        store = LocalStorage(path=tmp_path / f"{name}-{nth}")
        store.put("a/b", b"old")
        with monkeypatch.context() as patch:
            FailingOs(patch, name, nth)
            try:
                store.put("a/b", b"n" * 3_000_000)
            except StorageError as error:
                message = str(error)
            else:
                break
        assert str(store.path / "a" / "b") in message
        # The new object may be there only if flushing the folder failed, after the rename.
        assert content(store, "a/b") == b"old" or (name == "fsync" and content(store, "a/b") == b"n" * 3_000_000)
        assert not list(store.path.rglob(f"{PREFIX}*"))
    else:
        pytest.fail("put failed every time")


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of 1 MB, where mounting is allowed."""
    with small_disk(tmp_path, "1m") as path:
        yield path


def test_a_full_disk_shows_needed_and_free_bytes(disk):
    """Reliability 3: the message shows the path too, and the old object stays."""
    store = LocalStorage(path=disk / "store")
    store.put("a", b"old")

    with pytest.raises(
        StorageError, match=r"/a: cannot write this: there is no space left on the disk: 2 MB needed, 1.0\d MB free"
    ):
        store.put("a", bytes(2_000_000))

    assert content(store, "a") == b"old"
    assert store.list() == ["a"]


def test_a_read_only_disk_is_reported(disk):
    """Reliability 4: writing and creating a storage folder both say so."""
    (disk / "store").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    store = LocalStorage(path=disk / "store")

    with pytest.raises(StorageError, match=r"/a: cannot write this: the file system is read-only"):
        store.put("a", b"x")
    with pytest.raises(StorageError, match=r"new: cannot create this: the file system is read-only"):
        LocalStorage(path=disk / "new")


WRITER = """
import sys
from pathlib import Path
from dovetail.storage.local import LocalStorage
store = LocalStorage(path=Path(sys.argv[1]))
store.put("folder/key", bytes(2_000_000))
print("ready", flush=True)
number = 0
while True:
    number += 1
    store.put("folder/key", bytes([number % 256]) * 2_000_000)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_complete_object(tmp_path):
    """Reliability 1: killed at a random moment; its old leftovers are removed later."""
    draw = random.Random(1)  # noqa: S311 (instants to kill at)
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0.005, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        store = LocalStorage(path=tmp_path)
        found = content(store, "folder/key")
        assert len(set(found)) == 1
        assert len(found) == 2_000_000
        assert store.list() == ["folder/key"]
    old = time.time() - 120
    for path in tmp_path.rglob(f"{PREFIX}*"):
        os.utime(path, (old, old))

    LocalStorage(path=tmp_path)

    assert not list(tmp_path.rglob(f"{PREFIX}*"))


def test_put_recreates_a_folder_that_a_concurrent_delete_removed(tmp_path, monkeypatch):
    """The delete happens after mkdir() found the folder, and before the check that it is a folder."""
    store = LocalStorage(path=tmp_path)
    (tmp_path / "a").mkdir()
    mkdir = os.mkdir

    def mkdir_then_removed(path, *arguments):
        """Create a folder; if it exists, remove it, as another process would."""
        try:
            mkdir(path, *arguments)
        except FileExistsError:
            monkeypatch.setattr(os, "mkdir", mkdir)
            Path(path).rmdir()
            raise

    monkeypatch.setattr(os, "mkdir", mkdir_then_removed)
    store.put("a/b", b"1")

    assert content(store, "a/b") == b"1"


def test_threads_may_put_and_delete_concurrently(tmp_path):
    """Folders come and go meanwhile, and every object is complete."""
    store = LocalStorage(path=tmp_path)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                key = f"a/b/{number}"
                store.put(key, bytes([turn]) * 100)
                assert content(store, key) == bytes([turn]) * 100
                store.delete(key)
        except BaseException as error:  # noqa: BLE001 (reported by the test)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert list(tmp_path.iterdir()) == []
