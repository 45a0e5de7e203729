"""Curves as inline SVG: axes, a legend with last values, the best point, and a hover title on every mark.

The pictures need no script and no font, and take their colours from CSS variables (see ``report.css``), so that they
follow a light or a dark page. Text sizes are CSS too: a narrow page enlarges them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final, Literal

from attrs import frozen

from dovetail.record.markup import escape
from dovetail.record.runs import Point
from dovetail.record.scale import Scale, fit, tick_label
from dovetail.record.words import figure

WIDTH: Final = 560
HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 534, 64, 276
_MARGIN: Final = 8
_MOST_POINTS: Final = 360  # a curve with more keeps the extremes of equal groups
_MOST_MARKS: Final = 64  # more would hide the curve; they carry the hover titles
_SMOOTH_FROM: Final = 120  # points from which a noisy curve is drawn faintly, with its moving average

Role = Literal["train", "validation", "other", "test"]


@frozen
class Curve:
    """One line of a chart."""

    name: str
    role: Role
    points: Sequence[Point]
    #: The point to ring, if any.
    best: Point | None = None


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    test: float | None = None,
    may_be_log: bool = False,
    from_zero: bool = False,
) -> str:
    """Return a chart of ``curves`` over steps as an ``<svg>`` element.

    Args:
        title: what is shown; also the picture's accessible name.
        curves: at least one with a finite value.
        test: a value for a dashed level across the chart: the figure on the test split.
        may_be_log: draw positive values that span orders of magnitude on a logarithmic axis.
        from_zero: let the axis begin at zero, for amounts whose small changes mean little.
    """
    finite = [point for curve in curves for point in curve.points if math.isfinite(point.value)]
    levels = [point.value for point in finite] + ([test] if test is not None and math.isfinite(test) else [])
    x = _steps_scale(finite)
    y = fit([*levels, 0.0] if from_zero else levels, _BOTTOM, _TOP, may_be_log=may_be_log)
    parts = [
        (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
            ' xmlns="http://www.w3.org/2000/svg">'
        ),
        f'<text class="name" x="{_MARGIN}" y="18">{escape(title)}{" (log scale)" if y.logarithmic else ""}</text>',
        _legend(curves, test),
        *_axes(x, y),
    ]
    if test is not None and math.isfinite(test):
        parts.append(
            f'<g class="test"><title>test: {figure(test)}</title>'
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y(test):.1f}" y2="{y(test):.1f}"/></g>'
        )
    parts += [_curve(curve, x, y) for curve in curves]
    return "".join([*parts, "</svg>"])


def _steps_scale(points: Sequence[Point]) -> Scale:
    first, last = min(point.step for point in points), max(point.step for point in points)
    if first == last:
        return Scale(first - 1, last + 1, _LEFT, _RIGHT)
    return Scale(0 if first < last / 4 else first, last, _LEFT, _RIGHT)


def _axes(x: Scale, y: Scale) -> list[str]:
    parts = ['<g class="axes">']
    ticks = y.ticks(5)
    for tick in ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{at}" y2="{at}"/>')
        label = f"{tick:g}" if y.logarithmic else tick_label(tick, ticks)
        parts.append(f'<text class="y" x="{_LEFT - 7}" y="{at}" dy="0.35em">{label}</text>')
    ticks = [tick for tick in x.ticks(5) if tick == int(tick) and tick >= 0]
    parts += [
        f'<text class="x" x="{x(tick):.1f}" y="{_BOTTOM + 20}">{tick_label(tick, ticks)}</text>' for tick in ticks
    ]
    parts.append(f'<line class="base" x1="{_LEFT}" x2="{_RIGHT}" y1="{_BOTTOM}" y2="{_BOTTOM}"/>')
    parts.append(f'<text class="x" x="{(_LEFT + _RIGHT) / 2}" y="{HEIGHT - 4}">step</text></g>')
    return parts


def _legend(curves: Sequence[Curve], test: float | None) -> str:
    entries: list[tuple[Role, str, float]] = [(curve.role, curve.name, curve.points[-1].value) for curve in curves]
    if test is not None:
        entries.append(("test", "test", test))
    spans = "".join(
        f'<tspan class="key {role}" dx="{14 if place else 0}">{"┅" if role == "test" else "━"}</tspan>'
        f"<tspan> {escape(name)} {figure(value)}</tspan>"
        for place, (role, name, value) in enumerate(entries)
    )
    return f'<text class="legend" x="{_MARGIN}" y="42">{spans}</text>'


def _curve(curve: Curve, x: Scale, y: Scale) -> str:
    points = thin(curve.points, _MOST_POINTS)
    parts = [f'<g class="curve {curve.role}">']
    if len(curve.points) >= _SMOOTH_FROM:
        parts.append(f'<path class="raw" d="{_path(points, x, y)}"/>')
        parts.append(f'<path d="{_path(thin(smooth(curve.points), _MOST_POINTS), x, y)}"/>')
    else:
        parts.append(f'<path d="{_path(points, x, y)}"/>')
    finite = [point for point in curve.points if math.isfinite(point.value)]
    every = math.ceil(len(finite) / _MOST_MARKS) or 1
    kind = "dot" if every == 1 else "dot hidden"
    for point in finite[::every]:
        title = f"<title>{escape(curve.name)} {figure(point.value)} ({_where(point)})</title>"
        parts.append(f'<circle class="{kind}" {_at(point, x, y)} r="3">{title}</circle>')
    if curve.best is not None and math.isfinite(curve.best.value):
        title = f"<title>best {escape(curve.name)} {figure(curve.best.value)} ({_where(curve.best)})</title>"
        parts.append(f'<circle class="ring" {_at(curve.best, x, y)} r="6">{title}</circle>')
    return "".join([*parts, "</g>"])


def _at(point: Point, x: Scale, y: Scale) -> str:
    return f'cx="{x(point.step):.1f}" cy="{y(point.value):.1f}"'


def _where(point: Point) -> str:
    return f"epoch {point.epoch}, step {point.step:,}" if point.epoch else f"step {point.step:,}"


def _path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """Return path data; a value that is not finite, or not positive on a logarithmic axis, leaves a gap."""
    steps: list[str] = []
    down = False
    for point in points:
        if not math.isfinite(point.value) or (y.logarithmic and point.value <= 0):
            down = False
            continue
        steps.append(f"{'L' if down else 'M'}{x(point.step):.1f} {y(point.value):.1f}")
        down = True
    return "".join(steps)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most ``most`` of ``points``: the first, the last, and the extremes of equal groups between."""
    if len(points) <= most:
        return list(points)
    groups = (most - 2) // 2
    inner = points[1:-1]
    edges = [round(i * len(inner) / groups) for i in range(groups + 1)]
    kept = [points[0]]
    for start, end in itertools.pairwise(edges):
        group = inner[start:end]
        lowest = min(group, key=lambda point: point.value)
        highest = max(group, key=lambda point: point.value)
        kept += sorted({lowest, highest}, key=lambda point: point.step)
    return [*kept, points[-1]]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Return the moving average of ``points`` over a fiftieth of them, without what is not finite."""
    reach = max(1, len(points) // 100)
    finite = [point for point in points if math.isfinite(point.value)]
    totals = [0.0]
    for point in finite:
        totals.append(totals[-1] + point.value)
    averaged = []
    for place, point in enumerate(finite):
        start, end = max(0, place - reach), min(len(finite), place + reach + 1)
        averaged.append(Point(point.step, point.epoch, (totals[end] - totals[start]) / (end - start)))
    return averaged
