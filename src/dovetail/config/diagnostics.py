"""Problems with a configuration: where each one is, what was found there, and what was probably meant."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

from attrs import frozen

from dovetail.config.notation import basic_string, inline, key, visible
from dovetail.kernel.secret import Env

_MOST_COMPARED: Final = 100  # characters: a longer name is no typing error
_SHOWN: Final = 40  # characters of a value that a message repeats
_TYPES: Final[tuple[tuple[type, str], ...]] = (  # a subclass stands before its base
    (type(None), "none"),
    (Env, "secret"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "float"),
    (str, "string"),
    (dt.datetime, "date and time"),
    (dt.date, "date"),
    (dt.time, "time"),
    (list, "array"),
    (tuple, "array"),
    (Mapping, "table"),
)
_PLAIN_TYPES: Final = tuple(kind for kind, _ in _TYPES)
#: TOML's names of what a run file can express, none and secrets included.
TOML_TYPES: Final = tuple(dict.fromkeys(word for _, word in _TYPES))


@frozen
class Origin:
    """Where a key or a value comes from: a position in a file, an argument, a profile, a default, or Python."""

    #: The file as the user knows it, or words such as ``command line, argument 2``.
    source: str
    #: Counted from 1, as editors do; None for anything but a file.
    line: int | None = None
    #: Counted from 1, in characters.
    column: int | None = None

    @classmethod
    def argument(cls, number: int) -> Self:
        """Return the origin of the ``number``-th override, counted from 1."""
        return cls(f"command line, argument {number}")

    def __str__(self) -> str:
        source = visible(self.source, limit=300)
        return source if self.line is None else f"{source}:{self.line}:{self.column}"


#: The origin of a value that is not set anywhere.
DEFAULT: Final = Origin("default")
#: The origin of a value that a program set.
PYTHON: Final = Origin("Python")


@frozen
class Problem:
    """One thing that is wrong with a configuration."""

    origin: Origin
    #: The key in question, dotted as in TOML; empty if there is none.
    path: str
    #: What was expected, what was found and, if there is a good guess, what was meant.
    message: str

    def __str__(self) -> str:
        message = " ".join(self.message.splitlines())
        return ": ".join(part for part in (str(self.origin), visible(self.path, limit=200), message) if part)


class ConfigError(ValueError):
    """A configuration is invalid. It carries every problem; as text, each problem is one line."""

    #: Sorted by file, line and column, without duplicates; problems outside of files come last.
    problems: list[Problem]

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(dict.fromkeys(problems), key=_order)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        """Keep the problems when a worker process sends the error back."""
        return type(self), (self.problems,)


def _order(problem: Problem) -> tuple[object, ...]:
    origin = problem.origin
    numbered = [(int(digits or 0), text) for digits, text in re.findall(r"(\d{1,9})|(\D+)", origin.source)]
    return origin.line is None, numbered, origin.line or 0, origin.column or 0, problem.path, problem.message


class Problems(list[Problem]):
    """Collects problems, so that all of them are reported together."""

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Add the problems of a ``ConfigError`` that the block raises, and continue after the block."""
        try:
            yield
        except ConfigError as error:
            self.extend(error.problems)

    def finish(self) -> None:
        """Raise a ``ConfigError`` with all problems, if there are any."""
        if self:
            raise ConfigError(self)


# --- what was found -----------------------------------------------------------------------------------------


def toml_type(value: object) -> str:
    """Return TOML's word for the type of a plain value: "integer", "table" and so on; None is "none"."""
    return next((word for kind, word in _TYPES if isinstance(value, kind)), type(value).__name__)


def is_toml(value: object) -> bool:
    """Tell whether TOML can express a value, none and secrets included; only the outermost type counts."""
    return isinstance(value, _PLAIN_TYPES)


def with_article(word: str) -> str:
    """Return ``word`` with its indefinite article: "an integer", "a string"."""
    return f"{'an' if word[:1].lower() in tuple('aeiou') else 'a'} {word}"


def found(value: object) -> str:
    """Describe a value briefly, for the end of "expected …, got …": ``the string "30"``."""
    match value:
        case None:
            return "none"
        case Env(name=name):
            return f"the secret in the environment variable {name}"
        case str():
            return f"the string {basic_string(_cut(value))}"
        case list() | tuple():
            return f"an array of {len(value)} value{'s' * (len(value) != 1)}" if value else "an empty array"
        case Mapping():
            return f"a table with {_keys(value)}" if value else "an empty table"
        case bool() | int() | float() | dt.date() | dt.time():
            return f"the {toml_type(value)} {_cut(inline(value))}"
        case _:
            return f"{with_article(type(value).__name__)} object"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _keys(table: Mapping[Any, Any]) -> str:
    names = [visible(key(str(name))) for name in table]
    several = "s" * (len(names) > 1)
    shown = ", ".join(names[:3])
    return f"the key{several} {shown}" if len(names) <= 3 else f"{len(names)} keys ({shown}, …)"  # noqa: PLR2004 - as many as fit


# --- what was meant -----------------------------------------------------------------------------------------


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the candidate that ``name`` most likely stands for, or ``""``.

    In order of preference: a name that differs only in case, ``-`` and ``_``; one with a typing error or two; one with
    the same words and others around them (``epochs`` for ``max_epochs``); initials (``learning_rate`` for ``lr``).
    """
    near = nearest(name, candidates)
    return f"; did you mean '{near}'?" if near is not None else ""


def unknown(argument: str, kind: str, name: str, known: Collection[str]) -> ValueError:
    """Return the error for an unknown name of a ``kind``; it suggests the nearest known name, or lists all of them."""
    meant = suggest(name, known) or f"; there are {', '.join(known)}"
    return ValueError(f"{argument}: unknown {kind} '{name}'{meant}")


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that ``name`` most likely stands for, by the rules of :func:`suggest`, or None."""
    if len(name) > _MOST_COMPARED:
        return None
    rated = ((_likeness(name, candidate), candidate) for candidate in candidates if candidate != name)
    best = min(((rating, candidate) for rating, candidate in rated if rating is not None), default=None)
    return None if best is None else best[1]


def _likeness(name: str, candidate: str) -> tuple[int, int] | None:
    """Rate a candidate: the smaller, the nearer; None if it is not near at all."""
    given, known = _words(name), _words(candidate)
    plain_given, plain_known = "".join(given), "".join(known)
    if plain_given == plain_known:
        return 0, 0
    shorter, longer = sorted((len(plain_given), len(plain_known)))
    allowed = min(max(1, longer // 3), shorter - 1)
    if longer - shorter <= allowed and (edits := _edit_distance(plain_given, plain_known)) <= allowed:
        return 1, edits
    if shorter and (set(given) <= set(known) or set(known) <= set(given)):
        return 2, longer - shorter
    initials = {"".join(word[0] for word in words) for words in (given, known) if len(words) > 1}
    return (3, 0) if {plain_given, plain_known} & initials else None


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _edit_distance(left: str, right: str) -> int:
    """Count the insertions, deletions, replacements and swaps of neighbours that turn one word into another."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, char in enumerate(left, start=1):
        before, last, row = row[:], before, [i]
        for j, other in enumerate(right, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (char != other))
            if i > 1 and j > 1 and char == right[j - 2] and left[i - 2] == other:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
