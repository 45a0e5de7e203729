"""What the pictures of this package share: a title, axes, and round numbers on them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import frozen

Array = npt.NDArray[np.float64]

#: Of a picture, in its own units: about 13 of them are the height of a line of text, 18 where the page is narrow.
WIDTH: Final = 560


@frozen
class Axis:
    """One side of a picture: what it is called, and where along it which numbers stand."""

    name: str
    #: Places from 0 to 1, and what is written there.
    ticks: Sequence[tuple[float, str]]

    @classmethod
    def linear(cls, name: str, low: float, high: float, most: int = 5) -> Axis:
        """Return an axis on which values go evenly from ``low`` to ``high``."""
        return cls(name, [((tick - low) / (high - low), label(tick)) for tick in round_values(low, high, most)])

    @classmethod
    def through(cls, name: str, values: Array, most: int = 5) -> Axis:
        """Return an axis along which ``values``, at least two and rising, stand at even distances."""
        low, high = float(values[0]), float(values[-1])
        if np.allclose(np.diff(values), (high - low) / (len(values) - 1), rtol=1e-3):
            return cls.linear(name, low, high, most)
        even = np.interp(np.linspace(0, 1, most), np.linspace(0, 1, len(values)), values)
        # Round numbers near to even places: where values rise unevenly, round ones at even distances would crowd.
        rounded = sorted({_rounded(float(value)) for value in even})
        places = np.interp(rounded, values, np.linspace(0, 1, len(values)))
        inside = [(float(at), value) for at, value in zip(places, rounded, strict=True) if low <= value <= high]
        return cls(name, [(at, label(value)) for at, value in inside])


def picture(title: str, height: float, parts: Iterable[str]) -> str:
    """Return an ``<svg>`` element with a title, which is its accessible name too."""
    name = html.escape(title)
    opened = f'<svg class="chart" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {height:g}"'
    head = f'{opened} xmlns="http://www.w3.org/2000/svg"><text class="name" x="8" y="18">{name}</text>'
    return "".join([head, *parts, "</svg>"])


def text(words: str, x: float, y: float, kind: str = "") -> str:
    """Return words at a place; ``kind`` is a class of the report's style: ``x`` centres them, ``y`` ends them there."""
    chosen = f' class="{kind}"' if kind else ""
    return f'<text{chosen} x="{x:.1f}" y="{y:.1f}">{html.escape(words)}</text>'


def below(axis: Axis, left: float, right: float, bottom: float) -> list[str]:
    """Return an axis from left to right, under what it belongs to."""
    parts = []
    for place, words in axis.ticks:
        x = left + place * (right - left)
        parts.append(f'<path d="M{x:.1f} {bottom:g}v5" style="stroke: var(--muted)"/>')
        parts.append(text(words, x, bottom + 20, "x"))
    return [*parts, text(axis.name, (left + right) / 2, bottom + 42, "x")]


def beside(axis: Axis, left: float, top: float, bottom: float) -> list[str]:
    """Return an axis from the bottom up, left of what it belongs to, with its name above."""
    parts = [text(axis.name, 8, top - 16)]
    for place, words in axis.ticks:
        y = bottom - place * (bottom - top)
        parts.append(f'<path d="M{left:g} {y:.1f}h-5" style="stroke: var(--muted)"/>')
        parts.append(text(words, left - 9, y + 4.5, "y"))
    return parts


def round_values(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` round values from ``low`` to ``high``, evenly spaced."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (factor * power for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def label(value: float) -> str:
    """Return a number as an axis shows it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("e-0", "e-")  # noqa: PLR2004 (where commas begin)


def _rounded(value: float) -> float:
    if not value:
        return 0.0
    return float(f"{value:.1g}" if abs(value) < 10 else f"{value:.2g}")  # noqa: PLR2004 (two digits, of more than one)
