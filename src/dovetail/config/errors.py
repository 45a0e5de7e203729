"""How a misfit travels out of the converter: with the keys and indexes that lead to it, as cattrs notes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cattrs import IterableValidationError, IterableValidationNote

from dovetail.config.notation import KeyPath


class MisfitError(ValueError):
    """A value is not what its place takes, or a key is not known there."""

    def __init__(self, message: str, *, key: bool = False) -> None:
        """Keep what is wrong, and whether the key is rather than the value."""
        super().__init__(message)
        self.message, self.key = message, key


#: What structuring a value may raise.
FIT_ERRORS: Final = (MisfitError, IterableValidationError)


class Gathering:
    """Collects what is wrong with several things, each under its key, to raise all of it together."""

    def __init__(self, what: type) -> None:
        """Start with nothing wrong; ``what`` is being made of the things."""
        self.what = what
        self.errors: list[Exception] = []

    @contextmanager
    def at(self, key: str | int) -> Iterator[None]:
        """Take in what is raised inside, as wrong at ``key``."""
        try:
            yield
        except FIT_ERRORS as error:
            note = IterableValidationNote("", key, None)
            error.__notes__ = [*getattr(error, "__notes__", []), note]
            self.errors.append(error)

    def wrong(self, message: str) -> None:
        """Take in something that is wrong with the whole."""
        self.errors.append(MisfitError(message))

    def wrong_at(self, key: str, message: str) -> None:
        """Take in something that is wrong with the value at a key."""
        with self.at(key):
            raise MisfitError(message)

    def wrong_key(self, key: str, message: str) -> None:
        """Take in something that is wrong with a key itself."""
        with self.at(key):
            raise MisfitError(message, key=True)

    def finish(self) -> None:
        """Raise everything that was taken in.

        Raises:
            IterableValidationError: there was something.
        """
        if self.errors:
            raise IterableValidationError("", self.errors, self.what)


def misfits(error: Exception, path: KeyPath = ()) -> Iterator[tuple[KeyPath, MisfitError]]:
    """Yield everything that is wrong, with the way to it."""
    if isinstance(error, IterableValidationError):
        noted, bare = error.group_exceptions()
        for inner, note in noted:
            yield from misfits(inner, (*path, note.index))
        for inner in bare:
            yield from misfits(inner, path)
    elif isinstance(error, MisfitError):
        yield path, error
    else:
        yield path, MisfitError(f"cannot be used: {type(error).__name__}: {error}")
