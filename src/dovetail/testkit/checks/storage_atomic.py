"""Storage backends under interruption: an object is stored completely or not at all."""

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
#: Two objects that writers put in turn. Each repeats a single byte, so a partial or mixed object is obvious.
_CONTENTS: Final = (b"a" * (3 * 2**20), b"b" * (2 * 2**20 + 1))
_KILLS: Final = 8
#: Seconds for a writer to end: a store may import large libraries on a busy machine.
_TIMEOUT: Final = 300
#: How many times a reader reads: a number of seconds would mean only a few reads on a busy machine.
_READS: Final = 250
#: The longest pause between two reads, in seconds. Pauses are random: a reader must not run in lockstep with the
#: writer on a machine with one core.
_MAX_PAUSE: Final = 0.004

#: Builds the same store in another process, which can be killed or run out of space.
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
    """Raise unless the store contains exactly one object, with one of the ``allowed`` contents."""
    keys = store.list()
    expect(
        set(keys) <= {_KEY},
        f"{when}, list() contains {sorted(set(keys) - {_KEY})}; it must not list temporary files",
    )
    try:
        content = read(store, _KEY)
    except FileNotFoundError:
        fail(f"{when}, the object is missing. Do not delete the old object first; os.replace replaces it in one step.")
    expect(
        content in allowed,
        f"{when}, the object is partial or mixed: it has {len(content)} bytes that were never put. Write to a "
        "temporary file that list() does not return, flush it to the disk, then move it to its key in one step "
        "(os.replace).",
    )


@check("storage")
def a_failed_put_changes_nothing(subject: Subject) -> None:
    """If a put runs out of space, the old object remains complete."""
    store = empty_store(subject)
    store.put(_KEY, b"old")
    process = _writer(subject, limit=len(_CONTENTS[0]) // 2)
    _, stderr = process.communicate(timeout=_TIMEOUT)
    if process.returncode == 0:
        raise NotApplicable("a limit on the size of local files does not affect it")
    if process.returncode != 3:  # noqa: PLR2004 (the exit code of the writer)
        fail(f"a put that runs out of space must raise OSError; it ended with\n{stderr}")
    _expect_whole(store, "after a put that ran out of space", (b"old",))


class _TornSource(type(Path())):  # type: ignore[misc] # the class of paths depends on the system
    """A path whose file fails while it is read."""

    def open(self, *_: Any, **__: Any) -> Any:
        """Open the file; reading fails halfway."""
        return _TornFile(self)

    def read_bytes(self) -> bytes:
        """Read the whole file, which fails."""
        with _TornFile(self) as file:
            return file.read()


class _TornFile(io.FileIO):
    """A file that fails after half of its content, as one on a network may."""

    def read(self, size: int | None = -1) -> bytes:
        half = len(_CONTENTS[0]) // 2
        if self.tell() >= half:
            raise OSError(errno.EIO, "the source is gone")
        data = super().read(half if size is None or size < 0 else min(size, half))
        return data or b""

    def readall(self) -> bytes:
        self.read()
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)


@check("storage")
def a_source_that_fails_changes_nothing(subject: Subject) -> None:
    """If reading the source fails midway, the old object remains complete."""
    store = empty_store(subject)
    store.put(_KEY, b"old")
    Path("source").write_bytes(_CONTENTS[0])
    # A store that does not read through the Path gets the whole file and may put it; that object is complete, too.
    with contextlib.suppress(OSError):
        store.put(_KEY, _TornSource("source"))
    _expect_whole(store, "after a put whose source failed midway", (b"old", _CONTENTS[0]))


@check("storage")
def readers_see_whole_objects(subject: Subject) -> None:
    """A concurrent reader always sees the complete old or new object."""
    store = empty_store(subject)
    store.put(_KEY, _CONTENTS[1])
    pauses, finished = random.Random(0), threading.Event()  # noqa: S311 (not for secrets)

    def write() -> None:
        while not finished.is_set():
            for content in _CONTENTS:
                store.put(_KEY, content)

    def repeat_read() -> None:
        try:
            for _ in range(_READS):
                _expect_whole(store, "while another thread puts")
                time.sleep(pauses.uniform(0.0, _MAX_PAUSE))
        finally:
            finished.set()

    _run_concurrently(write, repeat_read)


def _run_concurrently(*tasks: Callable[[], None]) -> None:
    """Run the tasks in threads, and raise the first exception."""
    raised: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
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
    """Killing a writer at any moment leaves the complete old or new object, and the store stays usable."""
    store = empty_store(subject)
    store.put(_KEY, _CONTENTS[1])
    delays = random.Random(0)  # noqa: S311 (not for secrets)
    for _ in range(_KILLS):
        process = _writer(subject)
        try:
            assert process.stdout is not None, "it is a pipe"
            if process.stdout.readline() != "ready\n":
                _, stderr = process.communicate(timeout=_TIMEOUT)
                fail(f"the store cannot be built in another process:\n{stderr}")
            until = time.monotonic() + delays.uniform(0.0, 0.05)
            while time.monotonic() < until:
                _expect_whole(store, "while another process puts")
        finally:
            process.kill()
            process.communicate()
        _expect_whole(store, "after a writer was killed")
    store.put(_KEY, b"next")
    expect(
        read(store, _KEY) == b"next" and store.list() == [_KEY],
        f"after writers were killed and another put, list() returns {store.list()}",
    )
