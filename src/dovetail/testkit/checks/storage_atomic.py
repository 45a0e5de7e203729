"""Storage backends under interruption: an object is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dovetail.testkit.checks.storage import empty_store, read
from dovetail.testkit.registry import NotApplicable, check, expect, fail
from dovetail.testkit.subject import Subject

_KEY: Final = "checkpoints/model.bin"
#: The two objects that are put in turn: of one byte each, so that half an object is seen at once.
_CONTENTS: Final = (b"a" * (3 * 2**20), b"b" * (2 * 2**20 + 1))
_KILLS: Final = 8
#: Seconds that a writer has to end: a store may import much, on a machine that has much to do.
_PATIENCE: Final = 300
#: How often a reader looks: counted, as in so many seconds it may come to look but a few times on a busy machine.
_LOOKS: Final = 250
#: Seconds between two looks at most; random ones, or it keeps step with the writer where they share a core.
_BETWEEN: Final = 0.004

#: Builds the same store in a process of its own, which can be killed and can run out of space.
_WRITER: Final = """
import pathlib, pickle, resource, signal, sys
from dovetail.kernel.build import build

part, key, contents, limit = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
store = build(part, {})
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        store.put(key, contents[0])
    except OSError:
        sys.exit(3)
    sys.exit(0)
print("ready", flush=True)
while True:
    for content in contents:
        store.put(key, content)
"""


def _writer(subject: Subject, *, limit: int = 0) -> subprocess.Popen[str]:
    job = Path("job.pickle")
    job.write_bytes(pickle.dumps((subject.part, _KEY, _CONTENTS, limit)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(  # noqa: S603 (our own interpreter and code)
        [sys.executable, "-c", _WRITER, str(job.absolute())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _expect_whole(store: Any, when: str, allowed: tuple[bytes, ...] = _CONTENTS) -> None:
    """Raise unless the store holds one whole object of ours and nothing else."""
    keys = store.list()
    expect(
        set(keys) <= {_KEY},
        f"{when}, list() shows {sorted(set(keys) - {_KEY})}: unfinished work must not look like an object",
    )
    try:
        found = read(store, _KEY)
    except FileNotFoundError:
        fail(f"{when}, the object is gone. Do not remove the old one first: os.replace puts the new one in its place.")
    expect(
        found in allowed,
        f"{when}, the store shows {len(found)} bytes that nobody put: half an object, or two mixed. Write to a "
        "temporary place "
        "that list() does not show, flush it to the disk, then move it to its key in one step (os.replace).",
    )


@check("storage")
def a_failed_put_changes_nothing(subject: Subject) -> None:
    """Where a put fails midway for want of space, what was there before is still there, whole."""
    store = empty_store(subject)
    store.put(_KEY, b"old")
    process = _writer(subject, limit=len(_CONTENTS[0]) // 2)
    _, said = process.communicate(timeout=_PATIENCE)
    if process.returncode == 0:
        raise NotApplicable("what it puts is not limited by the space for files here")
    if process.returncode != 3:  # noqa: PLR2004 (what the writer exits with)
        fail(f"a put that ran out of space must raise OSError; it ended with\n{said}")
    _expect_whole(store, "after a put that ran out of space", (b"old",))


class _TornSource(type(Path())):  # type: ignore[misc] # the class of paths depends on the system
    """A file that goes away while it is read."""

    def open(self, *_: Any, **__: Any) -> Any:
        """Open it for reading; halfway through, reading fails."""
        return _TornFile(self)

    def read_bytes(self) -> bytes:
        """Read all of it, which fails."""
        with _TornFile(self) as file:
            return file.read()


class _TornFile(io.FileIO):
    """Reads half, in pieces, then fails as a file on a network does."""

    def read(self, size: int | None = -1) -> bytes:
        half = len(_CONTENTS[0]) // 2
        if self.tell() >= half:
            raise OSError(errno.EIO, "the source went away")
        found = super().read(half if size is None or size < 0 else min(size, half))
        return found or b""

    def readall(self) -> bytes:
        self.read()
        return self.read()

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(found)] = found
        return len(found)


@check("storage")
def a_source_that_fails_changes_nothing(subject: Subject) -> None:
    """Where the source cannot be read to its end, what was there before is still there, whole."""
    store = empty_store(subject)
    store.put(_KEY, b"old")
    Path("source").write_bytes(_CONTENTS[0])
    # A store that reads the file by other means than its Path gets all of it, and may put it: that is whole, too.
    with contextlib.suppress(OSError):
        store.put(_KEY, _TornSource("source"))
    _expect_whole(store, "after a put whose source failed midway", (b"old", _CONTENTS[0]))


@check("storage")
def readers_see_whole_objects(subject: Subject) -> None:
    """A reader beside a writer sees the old object or the new one, whole, at every moment."""
    store = empty_store(subject)
    store.put(_KEY, _CONTENTS[1])
    moments, seen = random.Random(0), threading.Event()  # noqa: S311 (not for secrets)

    def write() -> None:
        while not seen.is_set():
            for content in _CONTENTS:
                store.put(_KEY, content)

    def look() -> None:
        try:
            for _ in range(_LOOKS):
                _expect_whole(store, "while another thread puts")
                time.sleep(moments.uniform(0.0, _BETWEEN))
        finally:
            seen.set()

    _together(write, look)


def _together(*tasks: Callable[[], None]) -> None:
    """Run the tasks in threads, and raise what the first one to fail raised."""
    raised: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 (raised again, in the thread that asked)
            raised.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


@check("storage")
def a_killed_put_leaves_no_half(subject: Subject) -> None:
    """A writer killed at any moment leaves the old object or the new one, whole, and the store works on."""
    store = empty_store(subject)
    store.put(_KEY, _CONTENTS[1])
    moments = random.Random(0)  # noqa: S311 (not for secrets)
    for _ in range(_KILLS):
        process = _writer(subject)
        try:
            assert process.stdout is not None, "it is a pipe"
            if process.stdout.readline() != "ready\n":
                _, said = process.communicate(timeout=_PATIENCE)
                fail(f"the store cannot be built in another process:\n{said}")
            until = time.monotonic() + moments.uniform(0.0, 0.05)
            while time.monotonic() < until:
                _expect_whole(store, "while another process puts")
        finally:
            process.kill()
            process.communicate()
        _expect_whole(store, "after a writer was killed")
    store.put(_KEY, b"next")
    expect(read(store, _KEY) == b"next" and store.list() == [_KEY], f"after killed writers, a put gives {store.list()}")
