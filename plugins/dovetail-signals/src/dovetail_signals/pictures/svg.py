"""SVG building blocks of the pictures: title, axes, tick labels."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import frozen

Array = npt.NDArray[np.float64]

#: Width of a picture in its own units; a line of text takes about 13 units, or 18 on a narrow page.
WIDTH: Final = 560


@frozen
class Axis:
    """An axis of a picture: its name and its ticks."""

    name: str
    #: Positions from 0 to 1, and their labels.
    ticks: Sequence[tuple[float, str]]

    @classmethod
    def linear(cls, name: str, low: float, high: float, most: int = 5) -> Axis:
        """Return a linear axis from ``low`` to ``high`` with at most ``most`` ticks."""
        return cls(name, [((tick - low) / (high - low), label(tick)) for tick in round_values(low, high, most)])

    @classmethod
    def from_values(cls, name: str, values: Array, most: int = 5) -> Axis:
        """Return an axis on which ``values``, at least two and increasing, are evenly spaced."""
        low, high = float(values[0]), float(values[-1])
        if np.allclose(np.diff(values), (high - low) / (len(values) - 1), rtol=1e-3):
            return cls.linear(name, low, high, most)
        even = np.interp(np.linspace(0, 1, most), np.linspace(0, 1, len(values)), values)
        # Round the values at even positions; evenly spaced round values would crowd where the scale is dense.
        rounded = sorted({_rounded(float(value)) for value in even})
        places = np.interp(rounded, values, np.linspace(0, 1, len(values)))
        inside = [(float(at), value) for at, value in zip(places, rounded, strict=True) if low <= value <= high]
        return cls(name, [(at, label(value)) for at, value in inside])


def picture(title: str, height: float, parts: Iterable[str]) -> str:
    """Return an ``<svg>`` element with a title, which is also its accessible name."""
    name = html.escape(title)
    opened = f'<svg class="chart" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {height:g}"'
    head = f'{opened} xmlns="http://www.w3.org/2000/svg"><text class="name" x="8" y="18">{name}</text>'
    return "".join([head, *parts, "</svg>"])


def text(words: str, x: float, y: float, kind: str = "") -> str:
    """Return a ``<text>`` element; ``kind`` is a class of the report's styles: ``x`` centres, ``y`` right-aligns."""
    chosen = f' class="{kind}"' if kind else ""
    return f'<text{chosen} x="{x:.1f}" y="{y:.1f}">{html.escape(words)}</text>'


def x_axis(axis: Axis, left: float, right: float, bottom: float) -> list[str]:
    """Return the elements of a horizontal axis, below the plot."""
    parts = []
    for place, words in axis.ticks:
        x = left + place * (right - left)
        parts.append(f'<path d="M{x:.1f} {bottom:g}v5" style="stroke: var(--muted)"/>')
        parts.append(text(words, x, bottom + 20, "x"))
    return [*parts, text(axis.name, (left + right) / 2, bottom + 42, "x")]


def y_axis(axis: Axis, left: float, top: float, bottom: float) -> list[str]:
    """Return the elements of a vertical axis, left of the plot, with its name above."""
    parts = [text(axis.name, 8, top - 16)]
    for place, words in axis.ticks:
        y = bottom - place * (bottom - top)
        parts.append(f'<path d="M{left:g} {y:.1f}h-5" style="stroke: var(--muted)"/>')
        parts.append(text(words, left - 9, y + 4.5, "y"))
    return parts


def round_values(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` round, evenly spaced values from ``low`` to ``high``."""
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
    """Return a number formatted as a tick label."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("e-0", "e-")  # noqa: PLR2004 (the first value with a comma)


def _rounded(value: float) -> float:
    if not value:
        return 0.0
    return float(f"{value:.1g}" if abs(value) < 10 else f"{value:.2g}")  # noqa: PLR2004 (two digits from 10 up)
