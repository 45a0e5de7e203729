"""A heat map: a function of two coordinates, with colour for its value."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import numpy.typing as npt

from dovetail_signals.pictures.svg import Array, Axis, label, picture, round_values, text, x_axis, y_axis

_LEFT, _TOP, _WIDE, _HIGH = 66.0, 58.0, 400.0, 240.0
_MAX_COLUMNS: Final = 128  # cells: enough for the eye
_MAX_ROWS: Final = 96
_LEVELS: Final = 32
_HATCH: Final = 8.0
#: Stops of the colour map «cividis»: evenly spaced in brightness and readable with colour blindness.
_COLOURS: Final = np.array([[0, 34, 78], [74, 84, 108], [124, 123, 120], [184, 167, 107], [254, 232, 56]], float)


def heat_map(
    title: str, values: Array, rows: Axis, columns: Axis, *, hidden: Array | None = None, powers: bool = False
) -> str:
    """Return a heat map as an ``<svg>`` element.

    Args:
        title: also the picture's accessible name.
        values: ``[rows, columns]``, finite.
        rows: the vertical axis, from bottom to top.
        columns: the horizontal axis, from left to right.
        hidden: ``[rows, columns]``; cells other than 0 are hatched instead of coloured.
        powers: whether values are base-10 logarithms; the colour bar then shows powers of ten.
    """
    covered = np.zeros_like(values) if hidden is None else hidden
    seen = values[covered == 0]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    shown = _subsample(values)
    levels = ((shown - low) / ((high - low) or 1.0) * (_LEVELS - 1)).round().astype(int)
    levels[_subsample(covered) != 0] = -1
    bottom, right = _TOP + _HIGH, _LEFT + _WIDE
    parts = [
        *([_hatching()] if (levels < 0).any() else []),
        *_cells(levels),
        *x_axis(columns, _LEFT, right, bottom),
        *y_axis(rows, _LEFT, _TOP, bottom),
        *_colour_bar(low, high, powers=powers),
    ]
    return picture(title, bottom + 50, parts)


def _subsample(values: Array) -> Array:
    for axis, most in enumerate((_MAX_ROWS, _MAX_COLUMNS)):
        size = values.shape[axis]
        if size > most:
            values = np.take(values, np.linspace(0, size - 1, most).round().astype(int), axis=axis)
    return values


def _colour(level: int) -> str:
    place = level / (_LEVELS - 1) * (len(_COLOURS) - 1)
    channels = [np.interp(place, range(len(_COLOURS)), _COLOURS[:, channel]) for channel in range(3)]
    return "#" + "".join(f"{round(float(channel)):02x}" for channel in channels)


def _cells(levels: npt.NDArray[np.int_]) -> list[str]:
    """Return one path for each colour, with a row-wide line through adjacent cells; hidden cells have none."""
    high, wide = levels.shape
    drawn: dict[int, list[str]] = {}
    for row in range(high):
        edges = [0, *(np.flatnonzero(np.diff(levels[row])) + 1), wide]
        for first, after in itertools.pairwise(edges):
            drawn.setdefault(int(levels[row, first]), []).append(f"M{first} {high - 1 - row}h{after - first}")
    drawn.pop(-1, None)
    # Coordinates are in cells and one transform scales them, which halves the size of the picture.
    moved = f"translate({_LEFT:g} {_TOP:g}) scale({_WIDE / wide:.6g} {_HIGH / high:.6g}) translate(0 .5)"
    lines = [
        f'<path style="stroke: {_colour(level)}" d="{"".join(shapes)}"/>' for level, shapes in sorted(drawn.items())
    ]
    return [f'<g transform="{moved}" stroke-width="1" shape-rendering="crispEdges">', *lines, "</g>"]


def _hatching() -> str:
    """Return diagonals across the whole picture; visible cells cover them."""
    lines = []
    for at in np.arange(_HATCH, _WIDE + _HIGH, _HATCH):
        low, high = max(0.0, at - _HIGH), min(_WIDE, at)
        lines.append(f"M{_LEFT + low:g} {_TOP + at - low:g}L{_LEFT + high:g} {_TOP + at - high:g}")
    return f'<path style="stroke: var(--muted); stroke-opacity: 0.45" d="{"".join(lines)}"/>'


def _colour_bar(low: float, high: float, *, powers: bool) -> list[str]:
    x, bottom, step = _LEFT + _WIDE + 16, _TOP + _HIGH, _HIGH / _LEVELS
    bars = [
        f'<rect x="{x:g}" y="{bottom - (level + 1) * step:.1f}" width="14" height="{step + 0.4:.1f}"'
        f' fill="{_colour(level)}"/>'
        for level in range(_LEVELS)
    ]
    span = (high - low) or 1.0
    ticks = round_values(low, high, 6)
    if powers and len(whole := [tick for tick in ticks if tick == int(tick)]) > 1:
        ticks = whole
    words = [f"{10**tick:.0e}".replace("e-0", "e-") if powers else label(tick) for tick in ticks]
    return [
        *bars,
        *(
            text(word, x + 20, bottom - (tick - low) / span * _HIGH + 4.5)
            for word, tick in zip(words, ticks, strict=True)
        ),
    ]
