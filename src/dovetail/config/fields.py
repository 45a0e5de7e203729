"""The fields of sections: how each is declared, with default, help and limits, and how its value is checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
from attrs import field, frozen

from dovetail.config.diagnostics import suggest
from dovetail.config.notation import visible
from dovetail.kernel.kind import Limit

T = TypeVar("T")

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_DEVICE: Final = re.compile(r"auto|cpu|(cuda|mps|xpu|hpu|npu|mtia)(:\d{1,3})?")
_DURATION: Final = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?"
)
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b", re.IGNORECASE)
_MOST_CHARACTERS: Final = 40  # of a duration or a size, so that float() never gets a huge number


# --- declarations -----------------------------------------------------------------------------------------------


@frozen
class OfKind:
    """The kind of a :class:`~dovetail.kernel.build.Part`, inside ``Annotated``."""

    name: str
    #: The component that a table without ``type`` means; None if ``type`` is required.
    default_type: str | None = None


def setting(
    default: T,
    text: str,
    *limits: Limit,
    check: Callable[[Any, Any, Any], None] | None = None,
    **more: Any,
) -> T:
    """Declare a field of a section.

    Args:
        default: its default.
        text: its help.
        limits: limits of a number, or of each number in an array.
        check: a further validator, such as a :class:`Form`.
        more: further arguments of ``attrs.field``.
    """
    checks = [*([_within_limits] if limits else []), *([check] if check else [])]
    metadata = {"help": text, "limits": limits, "pattern": check.pattern if isinstance(check, Form) else None}
    made: T = field(default=default, validator=checks or None, metadata=metadata, **more)
    return made


def section(make: type[T]) -> T:
    """Declare a section that is a class of its own; the first line of the class's docstring is its help."""
    return field(factory=make, metadata={"help": (make.__doc__ or "").partition("\n")[0]})


def part(text: str, **more: Any) -> Any:
    """Declare a section that is a part, or a table of parts."""
    return field(metadata={"help": text}, **more)


# --- checks -----------------------------------------------------------------------------------------------------


def limit_problem(limits: tuple[Limit, ...], value: Any) -> str | None:
    """Return which limit a number, or a number in an array, exceeds; None if none, or if ``value`` is no number."""
    numbers = value if isinstance(value, list | tuple) else [value]
    for number in numbers:
        for limit in limits:
            if isinstance(number, int | float) and (problem := limit.problem(number)):
                return f"{problem}, got {number!r}"
    return None


def _within_limits(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if problem := limit_problem(attribute.metadata["limits"], value):
        raise ValueError(problem)


@frozen
class Form:
    """A form that a text must have; a validator for attrs."""

    #: Raises a ``ValueError`` for any other text.
    read: Callable[[str], Any]
    #: The form as a regular expression, for the JSON schema.
    pattern: str

    def __call__(self, _instance: object, _attribute: object, value: str | None) -> None:
        """Refuse a text of another form; None passes."""
        if value is not None:
            self.read(value)


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        shown = visible(text, limit=40)
        raise ValueError(f"must be 1 to 100 of the characters A-Z a-z 0-9 . _ - and not begin with '.', got {shown!r}")


def _check_device(text: str) -> None:
    if not _DEVICE.fullmatch(text):
        is_gpu = text.lower() in {"gpu", "nvidia"}
        hint = "; did you mean 'cuda'?" if is_gpu else suggest(text, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        shown = visible(text, limit=40)
        raise ValueError(f"{shown!r} is not a device such as 'auto', 'cpu', 'cuda' or 'cuda:0'{hint}")


def seconds(text: str) -> float:
    """Return a duration in seconds: ``"9h"``, ``"1h30m"``, ``"45s"``; units d, h, m, s, in this order.

    Raises:
        ValueError: it is not a duration, or it is zero.
    """
    match = _DURATION.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    given = {unit: float(number) for unit, number in match.groupdict().items() if number} if match else {}
    total = sum(number * _SECONDS[unit] for unit, number in given.items())
    if not total:
        raise ValueError(f'expected a duration such as "9h", "1h30m" or "45s", got {text[:_MOST_CHARACTERS]!r}')
    return total


def size_in_bytes(text: str) -> int:
    """Return a size in bytes: ``"16GB"`` (10⁹) or ``"16GiB"`` (2³⁰); units B, kB to TB, KiB to TiB, in any case.

    Raises:
        ValueError: it is not a size, or it is zero.
    """
    match = _SIZE.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    total = 0
    if match:
        number, prefix, binary = match.groups()
        total = round(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))
    if not total:
        raise ValueError(f'expected a size such as "16GB" or "512MiB", got {text[:_MOST_CHARACTERS]!r}')
    return total


#: A name that is safe for a folder.
NAME: Final = Form(_check_name, _NAME.pattern)
#: A device in torch's notation.
DEVICE: Final = Form(_check_device, _DEVICE.pattern)
#: What :func:`seconds` reads.
DURATION: Final = Form(seconds, r"(\d+(\.\d+)?[dhms])+")
#: What :func:`size_in_bytes` reads.
SIZE: Final = Form(size_in_bytes, r"\d+(\.\d+)? ?[kKmMgGtT]?[iI]?[bB]")
