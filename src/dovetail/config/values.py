"""Durations and sizes as people write them: ``"9h"``, ``"1h30m"``, ``"16GB"``."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?"
)
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b", re.IGNORECASE)
_MOST_DIGITS: Final = 40  # characters: more is nobody's duration, and float() need not see it


def seconds(text: str) -> float:
    """Return how many seconds a duration has: ``"9h"``, ``"1h30m"``, ``"45s"``; units d, h, m, s, in this order.

    Raises:
        ValueError: it is no duration, or it is zero.
    """
    match = _DURATION.fullmatch(text) if len(text) <= _MOST_DIGITS else None
    given = {unit: float(number) for unit, number in match.groupdict().items() if number} if match else {}
    total = sum(number * _SECONDS[unit] for unit, number in given.items())
    if not total:
        msg = f'expected a duration such as "9h", "1h30m" or "45s", got {text[:_MOST_DIGITS]!r}'
        raise ValueError(msg)
    return total


def size_in_bytes(text: str) -> int:
    """Return how many bytes a size such as ``"16GB"`` (10⁹) or ``"16GiB"`` (2³⁰) has; units B, kB to TB, KiB to TiB.

    Raises:
        ValueError: it is no size, or it is zero.
    """
    match = _SIZE.fullmatch(text) if len(text) <= _MOST_DIGITS else None
    total = 0
    if match:
        number, prefix, binary = match.groups()
        total = round(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))
    if not total:
        msg = f'expected a size such as "16GB" or "512MiB", got {text[:_MOST_DIGITS]!r}'
        raise ValueError(msg)
    return total
