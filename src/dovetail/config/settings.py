"""How the fields of a section are made: default, help, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from attrs import field, frozen

from dovetail.kernel.kind import Limit

T = TypeVar("T")


@frozen
class OfKind:
    """Says of which kind a :class:`~dovetail.kernel.build.Part` is, inside ``Annotated``."""

    name: str
    #: The component that is meant where the run file gives no ``type``.
    default_type: str | None = None


def limit_problem(limits: tuple[Limit, ...], value: Any) -> str | None:
    """Say which limit a number, or a number in an array, breaks; None where all hold or there is no number."""
    numbers = value if isinstance(value, list | tuple) else [value]
    for number in numbers:
        for limit in limits:
            if isinstance(number, int | float) and (problem := limit.problem(number)):
                return f"{problem}, got {number!r}"
    return None


def _within_limits(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if problem := limit_problem(attribute.metadata["limits"], value):
        raise ValueError(problem)


def setting(
    default: T,
    text: str,
    *limits: Limit,
    check: Callable[[Any, Any, Any], None] | None = None,
    pattern: str | None = None,
    **more: Any,
) -> T:
    """Make one field of a section: its default, its help, its limits, a check of its own.

    ``pattern`` is what the JSON schema says of the check, if that can be said as a regular expression.
    """
    checks = [*([_within_limits] if limits else []), *([check] if check else [])]
    metadata = {"help": text, "limits": limits, "pattern": pattern}
    made: T = field(default=default, validator=checks or None, metadata=metadata, **more)
    return made


def section(make: type[T]) -> T:
    """Make the field of a section that is a class of its own, described by that class's docstring."""
    return field(factory=make, metadata={"help": (make.__doc__ or "").partition("\n")[0]})


def part(text: str, **more: Any) -> Any:
    """Make the field of a section that is a part, or a table of parts."""
    return field(metadata={"help": text}, **more)
