"""Axes of charts: from values to positions, and which values deserve a tick."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from attrs import frozen

#: Largest over smallest value from which an axis of positive values is logarithmic.
_LOG_FROM: Final = 30.0
_MOST: Final = 1e250  # beyond this, room around values would be infinite
_ROOM: Final = 0.06  # share of the span left free above and below the values


@frozen
class Scale:
    """Maps values from ``low`` to ``high`` to positions from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of ``value``, kept within half a span of the axis."""
        low, high, at = (_exponent(one) if self.logarithmic else one for one in (self.low, self.high, value))
        share = (at - low) / (high - low)
        return self.start + min(1.5, max(-0.5, share)) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Return about ``count`` round values within the scale."""
        if self.logarithmic:
            return _log_ticks(self.low, self.high, count)
        step = _round_step((self.high - self.low) / max(1, count))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [float(f"{tick * step:.12g}") for tick in range(first, last + 1)]


def fit(values: Sequence[float], start: float, end: float, *, may_be_log: bool = False) -> Scale:
    """Return a scale for ``values`` with a little room; logarithmic, if it may be, where they span magnitudes."""
    low, high = (min(_MOST, max(-_MOST, one)) for one in (min(values), max(values)))
    if may_be_log and low > 0 and high / low >= _LOG_FROM:
        room = _ROOM * (_exponent(high) - _exponent(low))
        return Scale(10 ** (_exponent(low) - room), 10 ** (_exponent(high) + room), start, end, logarithmic=True)
    span = high - low or abs(high) or 1.0
    room = _ROOM * span if high > low else span / 2
    floor = 0.0 if 0 <= low < span / 4 else low - room
    return Scale(floor, high + room, start, end)


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """Return the label of a tick, with as many digits as tell the ticks apart."""
    if value == 0:
        return "0"
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=abs(value))
    if max(map(abs, ticks)) >= 1e6 or step < 1e-4:  # noqa: PLR2004 (plain notation would need too many zeros)
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}"


def _exponent(value: float) -> float:
    return math.log10(max(value, 1e-300))


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
