"""Line charts as inline SVG: axes, a legend with the last values, the best point, and a hover title on every mark.

The charts need no script and no font. They take colours and text sizes from ``report.css``, so they follow a light or a
dark page, and a narrow page enlarges their text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final, Literal

from attrs import frozen

from dovetail.record.formatting import format_number
from dovetail.record.report.markup import escape
from dovetail.record.runs import Point

WIDTH: Final = 560
HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 534, 64, 276
_MARGIN: Final = 8
_MOST_POINTS: Final = 360  # a longer curve is thinned
_MOST_MARKS: Final = 64  # more marks would hide the curve; each has a hover title
_SMOOTH_FROM: Final = 120  # a curve with at least as many points is drawn faintly, with its moving average

#: An axis of positive values is logarithmic if the largest is at least this many times the smallest.
_LOG_FROM: Final = 30.0
_MOST: Final = 1e250  # larger values would make the margin infinite
_LEAST: Final = 1e-300  # smaller values have no exponent of their own on a logarithmic axis
_PADDING: Final = 0.06  # margin above and below the values, as a fraction of their span

Role = Literal["train", "validation", "other", "test"]


@frozen
class Line:
    """One line of a chart."""

    name: str
    role: Role
    points: Sequence[Point]
    #: The point to draw a ring around, if any.
    best: Point | None = None


def line_chart(
    title: str,
    curves: Sequence[Line],
    *,
    test: float | None = None,
    may_be_log: bool = False,
    from_zero: bool = False,
) -> str:
    """Return a chart of ``curves`` over steps as an ``<svg>`` element.

    Args:
        title: the chart's heading and accessible name.
        curves: at least one curve with a finite value.
        test: the value on the test split, drawn as a dashed horizontal line.
        may_be_log: use a logarithmic axis if the values are positive and span orders of magnitude.
        from_zero: start the axis at zero, for quantities whose small changes mean little.
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
            f'<g class="test"><title>test: {format_number(test)}</title>'
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


def _legend(curves: Sequence[Line], test: float | None) -> str:
    entries: list[tuple[Role, str, float]] = [(curve.role, curve.name, curve.points[-1].value) for curve in curves]
    if test is not None:
        entries.append(("test", "test", test))
    spans = "".join(
        f'<tspan class="key {role}" dx="{14 if place else 0}">{"┅" if role == "test" else "━"}</tspan>'
        f"<tspan> {escape(name)} {format_number(value)}</tspan>"
        for place, (role, name, value) in enumerate(entries)
    )
    return f'<text class="legend" x="{_MARGIN}" y="42">{spans}</text>'


def _curve(curve: Line, x: Scale, y: Scale) -> str:
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
        title = f"<title>{escape(curve.name)} {format_number(point.value)} ({_position(point)})</title>"
        parts.append(f'<circle class="{kind}" {_at(point, x, y)} r="3">{title}</circle>')
    if curve.best is not None and math.isfinite(curve.best.value):
        title = f"<title>best {escape(curve.name)} {format_number(curve.best.value)} ({_position(curve.best)})</title>"
        parts.append(f'<circle class="ring" {_at(curve.best, x, y)} r="6">{title}</circle>')
    return "".join([*parts, "</g>"])


def _at(point: Point, x: Scale, y: Scale) -> str:
    return f'cx="{x(point.step):.1f}" cy="{y(point.value):.1f}"'


def _position(point: Point) -> str:
    return f"epoch {point.epoch}, step {point.step:,}" if point.epoch else f"step {point.step:,}"


def _path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """Return SVG path data; a value that is not finite, or not positive on a logarithmic axis, leaves a gap."""
    steps: list[str] = []
    pen_down = False
    for point in points:
        if not math.isfinite(point.value) or (y.logarithmic and point.value <= 0):
            pen_down = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{x(point.step):.1f} {y(point.value):.1f}")
        pen_down = True
    return "".join(steps)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most ``most`` of ``points``: the first, the last, and the extremes of equal groups in between."""
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
    """Return the moving average of the finite ``points``, over a window of 2 % of them."""
    radius = max(1, len(points) // 100)
    finite = [point for point in points if math.isfinite(point.value)]
    totals = [0.0]
    for point in finite:
        totals.append(totals[-1] + point.value)
    averaged = []
    for place, point in enumerate(finite):
        start, end = max(0, place - radius), min(len(finite), place + radius + 1)
        averaged.append(Point(point.step, point.epoch, (totals[end] - totals[start]) / (end - start)))
    return averaged


# --- axes -------------------------------------------------------------------------------------------------------------


@frozen
class Scale:
    """Maps values from ``low`` to ``high`` to positions from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of ``value``, clamped to half an axis length beyond either end."""
        low, high, at = (_exponent(x) if self.logarithmic else x for x in (self.low, self.high, value))
        fraction = (at - low) / (high - low)
        return self.start + min(1.5, max(-0.5, fraction)) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Return about ``count`` round values within the scale."""
        if self.logarithmic:
            return _log_ticks(self.low, self.high, count)
        step = _round_step((self.high - self.low) / max(1, count))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [float(f"{tick * step:.12g}") for tick in range(first, last + 1)]


def fit(values: Sequence[float], start: float, end: float, *, may_be_log: bool = False) -> Scale:
    """Return a scale for ``values`` with a margin; logarithmic if allowed and they span orders of magnitude."""
    low, high = (min(_MOST, max(-_MOST, value)) for value in (min(values), max(values)))
    if may_be_log and low > _LEAST and high / low >= _LOG_FROM:
        padding = _PADDING * (_exponent(high) - _exponent(low))
        return Scale(10 ** (_exponent(low) - padding), 10 ** (_exponent(high) + padding), start, end, logarithmic=True)
    span = high - low or abs(high) or 1.0
    padding = _PADDING * span if high > low else span / 2
    floor = 0.0 if 0 <= low < span / 4 else low - padding
    return Scale(floor, high + padding, start, end)


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """Return the label of a tick, with enough digits to tell the ticks apart."""
    if value == 0:
        return "0"
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=abs(value))
    if max(map(abs, ticks)) >= 1e6 or step < 1e-4:  # noqa: PLR2004 (plain notation would need too many zeros)
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}"


def _exponent(value: float) -> float:
    return math.log10(max(value, _LEAST))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough * 0.999)


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    first, last = math.floor(_exponent(low)), math.ceil(_exponent(high))
    for within in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{m}e{power}") for power in range(first, last + 1) for m in within]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= count + 1:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / (count + 1)))]
