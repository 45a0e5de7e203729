"""Storage backends: the five operations, one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dovetail.testkit.registry import check, expect, fail
from dovetail.testkit.subject import Subject

_TOO_LONG: Final = "x" * 256
#: Keys that could reach beyond the store, or that no file system takes.
HOSTILE_KEYS: Final = (
    "",
    ".",
    "..",
    "../outside",
    "inside/../../outside",
    "inside/..",
    "/absolute",
    "nul\0byte",
    "inside//twice",
    "inside/",
    "./inside",
    _TOO_LONG,
)
#: More than any buffer between the store and its medium.
LARGE: Final = 5 * 2**20 + 17


def empty_store(subject: Subject) -> Any:
    """Build the store, in the empty folder that the check runs in, and remove what it holds."""
    store = subject.build()
    keys = store.list()
    expect(isinstance(keys, list), f"list() returns a {type(keys).__name__}; it must be a list of the keys, sorted")
    for key in keys:
        store.delete(key)
    return store


def read(store: Any, key: str) -> bytes:
    """Return the content of an object."""
    with store.open(key) as file:
        content: bytes = file.read()
    return content


@check("storage")
def bytes_come_back(subject: Subject) -> None:
    """What is put comes back: nothing, every byte there is, and five megabytes; from bytes and from a file."""
    store = empty_store(subject)
    contents = {"empty": b"", "every": bytes(range(256)), "large": b"\x00\xff0123456789" * (LARGE // 12)}
    for name, content in contents.items():
        source = Path(f"{name}.source")
        source.write_bytes(content)
        for key, given in ((f"bytes/{name}", content), (f"file/{name}", source)):
            store.put(key, given)
            found = read(store, key)
            expect(
                found == content,
                f"put {len(content)} bytes from a {type(given).__name__}, got {len(found)} other bytes back",
            )
        expect(source.read_bytes() == content, "put changed or moved its source file")


@check("storage")
def put_replaces(subject: Subject) -> None:
    """Putting under a key that is taken replaces the object, longer or shorter."""
    store = empty_store(subject)
    for content in (b"first", b"the second is longer", b"3rd", b""):
        store.put("a/key", content)
        expect(read(store, "a/key") == content, f"after put({content!r}) the object is {read(store, 'a/key')!r}")
    expect(store.list() == ["a/key"], f"one key was put several times, and list() gives {store.list()}")


@check("storage")
def missing_objects_are_not_found(subject: Subject) -> None:
    """What is not there is a FileNotFoundError for open and delete, and False for exists."""
    store = empty_store(subject)
    store.put("there/too", b"")
    for key in ("never", "there/never", "never/there"):
        expect(store.exists(key) is False, f"exists('{key}') is {store.exists(key)!r}, though nothing was put there")
        for name in ("open", "delete"):
            try:
                getattr(store, name)(key)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 (anything else is the finding)
                fail(
                    f"{name}('{key}') of an object that is not there raises {type(error).__name__}; it must be "
                    "FileNotFoundError"
                )
            fail(f"{name}('{key}') of an object that is not there raises nothing; it must be FileNotFoundError")
    expect(store.exists("there") is False, "exists('there') is true because 'there/too' is; only whole keys exist")


@check("storage")
def a_missing_source_changes_nothing(subject: Subject) -> None:
    """Putting a file that is not there raises, and leaves what was there."""
    store = empty_store(subject)
    store.put("key", b"old")
    for key in ("key", "new"):
        try:
            store.put(key, Path("no-such-file"))
        except OSError:
            continue
        fail("put of a source file that is not there raises nothing; it must be FileNotFoundError")
    expect(read(store, "key") == b"old", "a put that failed has changed the object that was there")
    expect(store.list() == ["key"], f"a put that failed has left {store.list()}")


def _shown(key: str) -> str:
    return repr(key) if key != _TOO_LONG else f"{key[:9]!r} and so on, {len(key)} bytes"


@check("storage")
def hostile_keys_are_refused(subject: Subject) -> None:
    """Keys that are empty, absolute, not normal, too long, or lead out of the store are a ValueError."""
    store = empty_store(subject)
    store.put("inside/object", b"safe")
    around = sorted(str(path) for path in Path.cwd().rglob("*"))
    for key in HOSTILE_KEYS:
        for name, operation in (
            ("put", lambda key: store.put(key, b"bad")),
            ("open", store.open),
            ("delete", store.delete),
            ("exists", store.exists),
        ):
            try:
                operation(key)
            except ValueError as error:
                expect(str(error), f"{name}({_shown(key)}) raises ValueError without a word; name the key")
            except Exception as error:  # noqa: BLE001 (anything else is the finding)
                fail(
                    f"{name}({_shown(key)}) raises {type(error).__name__}: {error}; it must be ValueError, before "
                    "anything is touched"
                )
            else:
                why = "is too long for file systems" if key == _TOO_LONG else "can reach other people's files"
                fail(f"{name}({_shown(key)}) is taken; such a key {why}, and must be a ValueError")
    expect(store.list() == ["inside/object"], f"after refused keys the store holds {store.list()}")
    now = sorted(str(path) for path in Path.cwd().rglob("*"))
    expect(now == around, f"refused keys left files behind: {sorted(set(now) - set(around))}")
