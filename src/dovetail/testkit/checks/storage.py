"""Storage backends: the five operations, one at a time and in any sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dovetail.testkit.properties import run_machine
from dovetail.testkit.registry import check, expect, fail
from dovetail.testkit.subject import Subject

_TOO_LONG: Final = "x" * 256
#: Keys that could reach outside the store, or that file systems do not accept.
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
#: Larger than any buffer on the way to the disk.
LARGE: Final = 5 * 2**20 + 17


def empty_store(subject: Subject) -> Any:
    """Build the store in the check's folder, and delete its objects."""
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
    """Objects read back as put: empty, with every byte value and of 5 MB, from bytes and from a file."""
    store = empty_store(subject)
    contents = {"empty": b"", "every": bytes(range(256)), "large": b"\x00\xff0123456789" * (LARGE // 12)}
    for name, content in contents.items():
        source = Path(f"{name}.source")
        source.write_bytes(content)
        for key, given in ((f"bytes/{name}", content), (f"file/{name}", source)):
            store.put(key, given)
            stored = read(store, key)
            expect(
                stored == content,
                f"put {len(content)} bytes from a {type(given).__name__}, but read {len(stored)} different bytes",
            )
        expect(source.read_bytes() == content, "put changed or moved its source file; copy it")


@check("storage")
def put_replaces(subject: Subject) -> None:
    """A put to an existing key replaces the object, whether longer or shorter."""
    store = empty_store(subject)
    for content in (b"first", b"the second is longer", b"3rd", b""):
        store.put("a/key", content)
        expect(read(store, "a/key") == content, f"after put({content!r}) the object is {read(store, 'a/key')!r}")
    expect(store.list() == ["a/key"], f"after several puts to one key, list() returns {store.list()}")


@check("storage")
def missing_objects_are_not_found(subject: Subject) -> None:
    """For a missing object, open and delete raise FileNotFoundError, and exists returns False."""
    store = empty_store(subject)
    store.put("there/too", b"")
    for key in ("never", "there/never", "never/there"):
        expect(
            store.exists(key) is False,
            f"exists('{key}') returns {store.exists(key)!r}, but there is no such object; it must return False",
        )
        for name in ("open", "delete"):
            try:
                getattr(store, name)(key)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 (anything else is the finding)
                fail(
                    f"{name}('{key}') of a missing object raises {type(error).__name__}; it must raise "
                    "FileNotFoundError"
                )
            fail(f"{name}('{key}') of a missing object raises nothing; it must raise FileNotFoundError")
    expect(store.exists("there") is False, "exists('there') is true for the prefix of 'there/too'; match whole keys")


@check("storage")
def a_missing_source_changes_nothing(subject: Subject) -> None:
    """A put of a missing file raises OSError and changes nothing."""
    store = empty_store(subject)
    store.put("key", b"old")
    for key in ("key", "new"):
        try:
            store.put(key, Path("no-such-file"))
        except OSError:
            continue
        fail("put of a missing source file raises nothing; it must raise FileNotFoundError")
    expect(read(store, "key") == b"old", "a put that failed changed the existing object")
    expect(store.list() == ["key"], f"after a put that failed, list() returns {store.list()} instead of ['key']")


def _shown(key: str) -> str:
    return repr(key) if key != _TOO_LONG else f"{key[:9]!r}…, {len(key)} characters"


@check("storage")
def hostile_keys_are_refused(subject: Subject) -> None:
    """A key that is empty, absolute, not normalised, too long or leads out of the store raises ValueError."""
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
                expect(str(error), f"{name}({_shown(key)}) raises ValueError without a message; name the key")
            except Exception as error:  # noqa: BLE001 (anything else is the finding)
                fail(
                    f"{name}({_shown(key)}) raises {type(error).__name__}: {error}; it must raise ValueError before "
                    "any access"
                )
            else:
                why = "is too long for file systems" if key == _TOO_LONG else "can reach files outside the store"
                fail(f"{name}({_shown(key)}) is accepted, but the key {why}; it must raise ValueError")
    expect(
        store.list() == ["inside/object"],
        f"operations with invalid keys changed the store; list() returns {store.list()}",
    )
    now = sorted(str(path) for path in Path.cwd().rglob("*"))
    expect(now == around, f"operations with invalid keys created files: {sorted(set(now) - set(around))}")


# Folders and files have different names: a file system cannot store an object at a path that is a folder.
_FOLDERS: Final = st.sampled_from(["", "runs/", "runs/a b/", "runs/ü/", "runs-2/"])
_FILES: Final = st.sampled_from(["model.safetensors", "state.json", "state", ".hidden", "x" * 200, "100%", "tmp"])
_KEYS: Final = st.builds("{}{}".format, _FOLDERS, _FILES)
_PREFIXES: Final = st.sampled_from(["", "r", "runs", "runs/", "runs/a b/s", "state", "none", "runs-"])


class _StoreMachine(RuleBasedStateMachine):
    """Apply the same operations to a store and to a dictionary."""

    subject: Subject

    def __init__(self) -> None:
        super().__init__()
        self.store: Any = empty_store(self.subject)
        self.model: dict[str, bytes] = {}

    @rule(key=_KEYS, content=st.binary(max_size=40))
    def put(self, key: str, content: bytes) -> None:
        self.store.put(key, content)
        self.model[key] = content

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        try:
            self.store.delete(key)
        except FileNotFoundError:
            expect(key not in self.model, f"delete({key!r}) raises FileNotFoundError for an object that was put")
        else:
            expect(key in self.model, f"delete({key!r}) succeeds for an object that was never put")
            del self.model[key]

    @rule(prefix=_PREFIXES)
    def list_some(self, prefix: str) -> None:
        listed, expected = self.store.list(prefix), sorted(key for key in self.model if key.startswith(prefix))
        expect(
            listed == expected, f"list({prefix!r}) returns {listed}; the sorted keys with this prefix are {expected}"
        )

    @rule()
    def build_another(self) -> None:
        self.store = self.subject.build()

    @rule(key=_KEYS)
    def read_one(self, key: str) -> None:
        expect(self.store.exists(key) is (key in self.model), f"exists({key!r}) returns {self.store.exists(key)!r}")
        try:
            content = read(self.store, key)
        except FileNotFoundError:
            expect(key not in self.model, f"open({key!r}) raises FileNotFoundError for an object that was put")
        else:
            expected = self.model.get(key)
            expect(expected == content, f"open({key!r}) reads {content!r}; {expected!r} was put")

    @invariant()
    def lists_everything(self) -> None:
        listed, expected = self.store.list(), sorted(self.model)
        expect(listed == expected, f"list() returns {listed}; the keys that were put are {expected}")


@check("storage")
def behaves_like_a_dictionary(subject: Subject) -> None:
    """Any sequence of put, delete, list and open has the same effect as on a dictionary."""
    run_machine(type("StoreMachine", (_StoreMachine,), {"subject": subject}))
