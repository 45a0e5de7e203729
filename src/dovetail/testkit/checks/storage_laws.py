"""Storage backends against a dictionary: any sequence of operations gives what a dict would."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dovetail.testkit.checks.storage import empty_store, read
from dovetail.testkit.properties import run_machine
from dovetail.testkit.registry import check, expect
from dovetail.testkit.subject import Subject

# Folders and files have names of their own, as no file system keeps an object under a key that others go through.
_FOLDERS: Final = st.sampled_from(["", "runs/", "runs/a b/", "runs/ü/", "runs-2/"])
_FILES: Final = st.sampled_from(["model.safetensors", "state.json", "state", ".hidden", "x" * 200, "100%", "tmp"])
_KEYS: Final = st.builds("{}{}".format, _FOLDERS, _FILES)
_PREFIXES: Final = st.sampled_from(["", "r", "runs", "runs/", "runs/a b/s", "state", "none", "runs-"])


class _Beside(RuleBasedStateMachine):
    """A store beside a dictionary."""

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
            expect(key not in self.model, f"delete({key!r}) does not find an object that was put")
        else:
            expect(key in self.model, f"delete({key!r}) removes an object that was never put")
            del self.model[key]

    @rule(prefix=_PREFIXES)
    def list_some(self, prefix: str) -> None:
        found, expected = self.store.list(prefix), sorted(key for key in self.model if key.startswith(prefix))
        expect(found == expected, f"list({prefix!r}) gives {found}; the keys that start so, sorted, are {expected}")

    @rule()
    def build_another(self) -> None:
        self.store = self.subject.build()

    @rule(key=_KEYS)
    def read_one(self, key: str) -> None:
        expect(self.store.exists(key) is (key in self.model), f"exists({key!r}) is {self.store.exists(key)!r}")
        try:
            found = read(self.store, key)
        except FileNotFoundError:
            expect(key not in self.model, f"open({key!r}) does not find an object that was put")
        else:
            put = self.model.get(key)
            expect(put == found, f"open({key!r}) gives {found!r}; put was {put!r}")

    @invariant()
    def lists_everything(self) -> None:
        found, expected = self.store.list(), sorted(self.model)
        expect(found == expected, f"list() gives {found}, put were {expected}")


@check("storage")
def behaves_like_a_dictionary(subject: Subject) -> None:
    """Whatever is put, deleted, listed and read in whatever order, the store holds what a dictionary would."""
    about = subject

    class Sequence(_Beside):
        """The machine of this store."""

        subject = about

    run_machine(Sequence)
