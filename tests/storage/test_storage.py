"""Tests of the local store: objects are whole or not there, whatever fails and whoever is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
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

from dovetail.storage.atomic import PREFIX, reap, remove_folder, staged_folder, write_atomic
from dovetail.storage.errors import MissingObjectError, StorageError, size
from dovetail.storage.keys import check_key
from dovetail.storage.local import LocalStorage
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
    "a//b": "an empty part",
    "a/": "an empty part",
    ".": "'.' and '..'",
    "..": "'.' and '..'",
    "a/../b": "'.' and '..'",
    "../x": "'.' and '..'",
    "./a": "'.' and '..'",
    "a\0b": "NUL",
    "x" * 256: "longer than 255 bytes",
    "a/" + "é" * 128: "longer than 255 bytes",
    "\ud800": "UTF-8",
    f"{PREFIX}1": "unfinished file",
    f"a/{PREFIX}1/b": "unfinished file",
}


@pytest.mark.parametrize("key", GOOD_KEYS)
def test_keys_that_are_allowed(tmp_path, key):
    """What goes in comes out and is listed."""
    store = LocalStorage(path=tmp_path)

    store.put(key, b"x")

    assert store.list() == [key]
    assert content(store, key) == b"x"


@pytest.mark.parametrize("key, message", BAD_KEYS.items())
def test_keys_that_are_not(tmp_path, key, message):
    """The same for every method, and nothing is written anywhere."""
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
def test_any_key_is_checked_without_another_error(key):
    """Allowed or refused."""
    try:
        assert check_key(key) == key
    except ValueError:
        assert not key or set(key) & set("/.\0") or key.startswith(PREFIX) or not key.isascii()


# --- one store against a dict ---------------------------------------------------------------------------------------

keys = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


def blocked(key: str, keys: set[str]) -> bool:
    """Say whether a file system cannot hold ``key`` beside ``keys``: one is a folder of another."""
    return any(other.startswith(f"{key}/") or key.startswith(f"{other}/") for other in keys)


class StoreMachine(RuleBasedStateMachine):
    """A store does what a dict does."""

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
        """Put, or be refused where a folder and a file would have one name."""
        if blocked(key, set(self.model)):
            with pytest.raises(StorageError, match="cannot write this"):
                self.store.put(key, value)
        else:
            self.store.put(key, value)
            self.model[key] = value

    @rule(key=keys)
    def delete(self, key):
        """Delete, or be told that there is none."""
        if key in self.model:
            self.store.delete(key)
            del self.model[key]
        else:
            with pytest.raises(FileNotFoundError, match="there is no such object"):
                self.store.delete(key)

    @rule(key=keys)
    def read(self, key):
        """Read, or be told that there is none."""
        assert self.store.exists(key) == (key in self.model)
        if key in self.model:
            assert content(self.store, key) == self.model[key]
        else:
            with pytest.raises(MissingObjectError):
                self.store.open(key)

    @rule(prefix=st.sampled_from(["", "a", "a/", "a/b", "b/c", "z"]))
    def list(self, prefix):
        """List by any prefix, whole parts or not."""
        assert self.store.list(prefix) == sorted(key for key in self.model if key.startswith(prefix))

    @rule()
    def open_again(self):
        """A new store on the same folder has the same objects."""
        self.store = LocalStorage(path=self.store.path)

    @invariant()
    def nothing_unfinished(self):
        """No leftovers."""
        assert not list(self.store.path.rglob(f"{PREFIX}*"))


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=30, stateful_step_count=25)


def test_files_are_copied(tmp_path):
    """A path as a source: its content, larger than one read."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_001))
    store = LocalStorage(path=tmp_path / "store")

    store.put("a/b", source)

    assert content(store, "a/b") == source.read_bytes()
    with pytest.raises(StorageError, match=r"absent: cannot store this: it is not a file"):
        store.put("a/c", tmp_path / "absent")
    with pytest.raises(StorageError, match="it is not a file"):
        store.put("a/c", tmp_path)


def test_a_reader_is_not_disturbed(tmp_path):
    """It reads to the end what it opened, whatever becomes of the key."""
    store = LocalStorage(path=tmp_path)
    store.put("a", b"old")
    with store.open("a") as first:
        store.put("a", b"new")
        with store.open("a") as second:
            store.delete("a")
            assert (first.read(), second.read()) == (b"old", b"new")


def test_symbolic_links_are_refused(tmp_path):
    """To a file or a folder, inside or outside; and they are not listed."""
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


def test_the_store_may_be_reached_through_a_link(tmp_path):
    """What is above the folder is the user's business."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    LocalStorage(path=tmp_path / "link").put("a", b"x")

    assert (tmp_path / "real" / "a").read_bytes() == b"x"


def test_a_file_in_the_stores_place_is_refused(tmp_path):
    """With its path."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(
        StorageError, match=r"file: cannot make a store of this: there is already something of that name"
    ):
        LocalStorage(path=tmp_path / "file")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        LocalStorage(path=tmp_path / "file" / "store")


def test_errors_can_be_handed_to_another_process(tmp_path):
    """Whole, with their message."""
    error = StorageError(tmp_path, "cannot write this", errno.ENOSPC)

    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)

    assert (str(again), again.filename, again.errno) == (str(error), str(tmp_path), errno.ENOSPC)
    assert isinstance(error, OSError)


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_500_000, "1.5 MB"),
        (2 * 10**9, "2 GB"),
        (5 * 10**15, "5e+03 TB"),
    ],
)
def test_sizes_are_shown_as_a_person_reads_them(number, text):
    """In powers of a thousand."""
    assert size(number) == text


# --- faults ---------------------------------------------------------------------------------------------------------

CALLS = ("write", "fsync", "replace")


class FailingOs:
    """Makes the Nth of a kind of call to the operating system fail."""

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
def test_whichever_call_fails_the_old_object_stays(tmp_path, monkeypatch, name):
    """Reliability 2: for every N until none fails any more."""
    for nth in range(1, 30):
        store = LocalStorage(path=tmp_path / f"{name}-{nth}")
        store.put("a/b", b"old")
        with monkeypatch.context() as patch:
            FailingOs(patch, name, nth)
            try:
                store.put("a/b", b"n" * 3_000_000)
            except StorageError as error:
                said = str(error)
            else:
                break
        assert str(store.path / "a" / "b") in said
        # Only when the folder could not be flushed after the rename may the new object be there.
        assert content(store, "a/b") == b"old" or (name == "fsync" and content(store, "a/b") == b"n" * 3_000_000)
        assert not list(store.path.rglob(f"{PREFIX}*"))
    else:
        pytest.fail("the calls never ended")


@pytest.fixture
def disk(tmp_path):
    """Return a disk of 1 MB, where that is allowed."""
    with small_disk(tmp_path, "1m") as path:
        yield path


def test_a_full_disk_names_what_was_needed(disk):
    """Reliability 3: the path, the bytes needed and those free; what was there still is."""
    store = LocalStorage(path=disk / "store")
    store.put("a", b"old")

    with pytest.raises(
        StorageError, match=r"/a: cannot write this: there is no space left on the disk: 2 MB needed, 1.0\d MB free"
    ):
        store.put("a", bytes(2_000_000))

    assert content(store, "a") == b"old"
    assert store.list() == ["a"]


def test_a_read_only_disk_is_named(disk):
    """Reliability 4."""
    (disk / "store").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    store = LocalStorage(path=disk / "store")

    with pytest.raises(StorageError, match=r"/a: cannot write this: the file system is read-only"):
        store.put("a", b"x")
    with pytest.raises(StorageError, match=r"new: cannot make a store of this: the file system is read-only"):
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
def test_a_killed_writer_leaves_a_whole_object(tmp_path):
    """Reliability 1: killed at random instants, the object is whole; old leftovers are reaped."""
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


def test_only_what_is_old_and_nobodys_is_reaped(tmp_path):
    """A file that somebody is still writing is locked; a young one may be about to be."""
    young, old, held, link = (tmp_path / f"{PREFIX}{name}" for name in ("young", "old", "held", "link"))
    folder = tmp_path / f"{PREFIX}folder"
    (folder / "inside").mkdir(parents=True)
    for path in (young, old, held):
        path.write_bytes(b"")
    link.symlink_to(old)
    (tmp_path / "normal").write_bytes(b"")
    then = time.time() - 120
    for path in (old, held, folder, tmp_path / "normal"):
        os.utime(path, (then, then))
    os.utime(link, (then, then), follow_symlinks=False)
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        reaped = reap(tmp_path)

    assert sorted(reaped) == [folder, link, old]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([young.name, held.name, "normal"])


def test_a_folder_that_goes_while_it_is_looked_at_is_made_again(tmp_path, monkeypatch):
    """A delete by another process between mkdir(), which found the folder, and the look at what is there."""
    store = LocalStorage(path=tmp_path)
    (tmp_path / "a").mkdir()
    mkdir = os.mkdir

    def gone_by_then(path, *arguments):
        """Make a folder; where there is one, it is removed by somebody else right after that was found."""
        try:
            mkdir(path, *arguments)
        except FileExistsError:
            monkeypatch.setattr(os, "mkdir", mkdir)
            Path(path).rmdir()
            raise

    monkeypatch.setattr(os, "mkdir", gone_by_then)
    store.put("a/b", b"1")

    assert content(store, "a/b") == b"1"


def test_many_threads_may_put_and_delete_at_once(tmp_path):
    """The folders between come and go, and no object is ever half there."""
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


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path):
    """And never in the place of another, be it empty."""
    with staged_folder(tmp_path / "a") as staging:
        (staging / "file").write_bytes(b"x")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]

    with pytest.raises(KeyError), staged_folder(tmp_path / "b"):
        raise KeyError
    with pytest.raises(FileExistsError), staged_folder(tmp_path / "a"):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileExistsError), staged_folder(tmp_path / "empty"):
        pass

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]


def test_a_folder_is_removed_at_once(tmp_path):
    """And write_atomic refuses to make folders by itself."""
    (tmp_path / "a" / "b").mkdir(parents=True)

    remove_folder(tmp_path / "a")

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "a" / "b", b"")
