"""A function of two coordinates as a picture: colour by value."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_LEFT, _TOP, _WIDE, _HIGH = 52.0, 34.0, 410.0, 240.0
_MOST_ACROSS: Final = 160  # cells; a picture is looked at, and not measured
_MOST_ALONG: Final = 96
_LEVELS: Final = 32
#: Colours in equal steps of brightness, readable with every kind of sight: the ends and the middle of «cividis».
_COLOURS: Final = np.array([[0, 34, 78], [74, 84, 108], [124, 123, 120], [184, 167, 107], [254, 232, 56]], float)


def heat_map(title: str, values: Array, rows: Array, columns: Array, names: tuple[str, str]) -> str:
    """Return a picture of ``values`` as an ``<svg>`` element.

    Args:
        title: what is shown; also the picture's accessible name.
        values: ``[rows, columns]``, finite.
        rows: the coordinate from bottom to top, rising.
        columns: the coordinate from left to right, rising.
        names: of both, rows first.
    """
    low, high = float(values.min()), float(values.max())
    shown = _thin(_thin(values, _MOST_ALONG, 0), _MOST_ACROSS, 1)
    levels = ((shown - low) / ((high - low) or 1.0) * (_LEVELS - 1)).round().astype(int)
    name = html.escape(title)
    size = 'viewBox="0 0 560 320" xmlns="http://www.w3.org/2000/svg"'
    parts = [
        f'<svg class="chart" role="img" aria-label="{name}" {size}>',
        f'<text class="name" x="8" y="18">{name}</text>',
        *_cells(levels),
        *_frame(rows, columns, names),
        *_key(low, high),
    ]
    return "".join([*parts, "</svg>"])


def _thin(values: Array, most: int, axis: int) -> Array:
    size = values.shape[axis]
    if size <= most:
        return values
    return np.take(values, np.linspace(0, size - 1, most).round().astype(int), axis=axis)


def _colour(level: int) -> str:
    place = level / (_LEVELS - 1) * (len(_COLOURS) - 1)
    channels = [np.interp(place, range(len(_COLOURS)), _COLOURS[:, channel]) for channel in range(3)]
    return "#" + "".join(f"{round(float(one)):02x}" for one in channels)


def _cells(levels: npt.NDArray[np.int_]) -> list[str]:
    """Return one path for each colour: its cells, neighbours in a row as one rectangle."""
    high, wide = levels.shape
    height, width = _HIGH / high, _WIDE / wide
    drawn: dict[int, list[str]] = {}
    for row in range(high):
        edges = [0, *(np.flatnonzero(np.diff(levels[row])) + 1), wide]
        y = _TOP + _HIGH - (row + 1) * height
        for first, after in itertools.pairwise(edges):
            x, length = _LEFT + first * width, (after - first) * width
            # A little larger than it is, or the gaps between cells would shine through.
            shape = f"M{x:.1f} {y:.1f}h{length + 0.6:.1f}v{height + 0.6:.1f}h-{length + 0.6:.1f}z"
            drawn.setdefault(int(levels[row, first]), []).append(shape)
    return [f'<path fill="{_colour(level)}" d="{"".join(shapes)}"/>' for level, shapes in sorted(drawn.items())]


def _frame(rows: Array, columns: Array, names: tuple[str, str]) -> list[str]:
    bottom, right = _TOP + _HIGH, _LEFT + _WIDE
    return [
        f'<text class="y" x="{_LEFT - 6}" y="{_TOP + 10}">{_number(rows[-1])}</text>',
        f'<text class="y" x="{_LEFT - 6}" y="{bottom}">{_number(rows[0])}</text>',
        f'<text class="y" x="{_LEFT - 6}" y="{(_TOP + bottom) / 2}">{html.escape(names[0])}</text>',
        f'<text class="x" x="{_LEFT + 8}" y="{bottom + 18}">{_number(columns[0])}</text>',
        f'<text class="x" x="{right - 8}" y="{bottom + 18}">{_number(columns[-1])}</text>',
        f'<text class="x" x="{(_LEFT + right) / 2}" y="{bottom + 18}">{html.escape(names[1])}</text>',
    ]


def _key(low: float, high: float) -> list[str]:
    x, step = _LEFT + _WIDE + 14, _HIGH / _LEVELS
    bars = [
        f'<rect x="{x}" y="{_TOP + _HIGH - (level + 1) * step:.1f}" width="14" height="{step + 0.4:.1f}"'
        f' fill="{_colour(level)}"/>'
        for level in range(_LEVELS)
    ]
    labels: Sequence[tuple[float, float]] = ((_TOP + 10, high), (_TOP + _HIGH, low))
    return [*bars, *(f'<text x="{x + 20}" y="{y}">{_number(value)}</text>' for y, value in labels)]


def _number(value: float) -> str:
    return f"{value:.3g}"
