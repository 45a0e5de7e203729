"""Stacked spectra of several classes, with lines at expected frequencies."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from attrs import frozen

from dovetail_signals.pictures.svg import WIDTH, Array, Axis, picture, x_axis

_LEFT, _RIGHT, _TOP = 8.0, WIDTH - 10.0, 62.0
_HIGH: Final = 78.0  # of a row, including its name
_NAME: Final = 20.0  # of a row's name
_COLUMNS: Final = 500  # points of a drawn spectrum, each the maximum of its bin


@frozen
class Marks:
    """The lines of a frequency and its multiples."""

    name: str
    places: Sequence[float]
    #: Name of a colour of the report, such as ``train``.
    colour: str


def stacked_spectra(title: str, spectra: Mapping[str, Array], axis: str, end: float, marks: Sequence[Marks]) -> str:
    """Return a picture of spectra, one above the other, each scaled by its maximum.

    Args:
        title: also the picture's accessible name.
        spectra: ``[values]`` by the name of a class, evenly spaced from 0 to ``end``.
        axis: name and unit of the horizontal axis.
        end: end of the horizontal axis.
        marks: lines through all spectra.
    """
    bottom = _TOP + _HIGH * len(spectra)
    parts = [_legend(marks)]
    for kind in marks:
        for number, place in enumerate(kind.places, start=1):
            x = _LEFT + place / end * (_RIGHT - _LEFT)
            which = f"{number} × {kind.name}" if number > 1 else kind.name
            parts.append(
                f'<g><title>{html.escape(which)} = {place:.3g}</title><path d="M{x:.1f} {_TOP:g}V{bottom:g}"'
                f' style="stroke: var(--{kind.colour}); stroke-width: 1.5; stroke-dasharray: 4 3"/></g>'
            )
    for row, (name, values) in enumerate(spectra.items()):
        base = _TOP + (row + 1) * _HIGH
        parts.append(f'<path d="M{_LEFT:g} {base:g}H{_RIGHT:g}" style="stroke: var(--line)"/>')
        parts.append(_line(values, base))
        # An outline in the background colour keeps the lines from crossing the name.
        parts.append(
            f'<text class="name" x="{_RIGHT:g}" y="{base - _HIGH + 16:.1f}" style="text-anchor: end; font-size: 13px;'
            f' paint-order: stroke; stroke: var(--card); stroke-width: 5px">{html.escape(name)}</text>'
        )
    return picture(title, bottom + 50, [*parts, *x_axis(Axis.linear(axis, 0, end, 8), _LEFT, _RIGHT, bottom)])


def _legend(marks: Sequence[Marks]) -> str:
    spans = "".join(
        f'<tspan dx="{14 if number else 0}" style="fill: var(--{kind.colour})">┅</tspan>'
        f"<tspan> {html.escape(kind.name)} {kind.places[0]:.3g}</tspan>"
        for number, kind in enumerate(marks)
    )
    return f'<text class="legend" x="8" y="42">{spans}</text>'


def _line(values: Array, base: float) -> str:
    fine = np.interp(np.linspace(0, len(values) - 1, 8 * _COLUMNS), range(len(values)), values)
    highest = fine.reshape(_COLUMNS, 8).max(axis=1)
    heights = highest / (highest.max() or 1.0) * (_HIGH - _NAME)
    step = (_RIGHT - _LEFT) / _COLUMNS
    points = "L".join(f"{_LEFT + (at + 0.5) * step:.1f} {base - height:.1f}" for at, height in enumerate(heights))
    return f'<path d="M{points}" style="fill: none; stroke: var(--ink); stroke-width: 1.3; stroke-linejoin: round"/>'
