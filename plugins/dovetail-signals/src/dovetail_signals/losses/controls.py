"""Controls for physics losses: the same loss with wrong fault frequencies.

If a network gains as much from the frequencies of other classes, or from random ones, as from the true ones, then the
gain is not due to the physics. Run each control with as many seeds as the real loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Literal

Frequencies = Mapping[int, Sequence[float]]
Spans = Mapping[int, Sequence[tuple[float, float]]]
Control = Literal["none", "scrambled", "random"]

_REACH: Final = 2.0  # random frequencies lie between lowest / _REACH and highest · _REACH
_TRIES: Final = 1000


def apply_control(
    frequencies: Frequencies, spans: Spans, control: Control, seed: int, tolerance: float
) -> tuple[Frequencies, Spans]:
    """Return the frequencies and the additional bands of each class under a control.

    Args:
        frequencies: frequencies of each class.
        spans: additional bands of each class.
        control: ``none`` changes nothing. ``scrambled`` exchanges frequencies and bands between classes. ``random``
            draws as many frequencies, uniformly on a logarithmic scale from half the lowest to twice the highest, with
            bands of the same relative width that do not overlap any true band.
        seed: seed of the draws.
        tolerance: half the width of a band around a frequency, relative to it.

    Raises:
        ValueError: all classes have the same frequencies, so none can be exchanged, or the true bands leave no room.
    """
    if control == "scrambled":
        return _scrambled(frequencies, spans, Random(seed))  # noqa: S311 (not for security)
    if control == "random":
        return _randomised(frequencies, spans, tolerance, Random(seed))  # noqa: S311 (as above)
    return frequencies, spans


def _scrambled(frequencies: Frequencies, spans: Spans, random: Random) -> tuple[Frequencies, Spans]:
    """Exchange frequencies so that no class keeps its own, and classes that had the same ones still do."""
    classes = sorted({*frequencies, *spans})
    owned = {which: (tuple(frequencies.get(which, ())), tuple(spans.get(which, ()))) for which in classes}
    kinds = sorted(set(owned.values()))
    if len(kinds) < 2:  # noqa: PLR2004 (one kind cannot be exchanged)
        raise ValueError('control = "scrambled" needs classes with different frequencies, but all have the same')
    others = list(kinds)
    while any(kind == other for kind, other in zip(kinds, others, strict=True)):
        random.shuffle(others)
    given = dict(zip(kinds, others, strict=True))
    return (
        {which: given[owned[which]][0] for which in classes},
        {which: given[owned[which]][1] for which in classes},
    )


def _randomised(frequencies: Frequencies, spans: Spans, tolerance: float, random: Random) -> tuple[Frequencies, Spans]:
    true = [
        (frequency * (1 - tolerance), frequency * (1 + tolerance))
        for found in frequencies.values()
        for frequency in found
    ]
    lengths = true + [span for found in spans.values() for span in found]
    if not lengths:
        return frequencies, spans

    def drawn(among: list[tuple[float, float]], low: float, high: float) -> float:
        """Return a factor that moves the band from ``low`` to ``high`` away from all bands in ``among``."""
        bottom = min(max(start, other / 100) for start, other in among) / _REACH  # 0 has no logarithm
        top = max(start for _, start in among) * _REACH
        for _ in range(_TRIES):
            factor = math.exp(random.uniform(math.log(bottom), math.log(top))) / math.sqrt(max(low, bottom) * high)
            if all(high * factor <= start or low * factor >= end for start, end in among):
                return factor
        raise ValueError('control = "random": the true bands leave no room for random ones; reduce tolerance')

    # Equal true frequencies get equal random ones, so classes that had a frequency in common still do.
    moved = {
        frequency: frequency * drawn(true, frequency * (1 - tolerance), frequency * (1 + tolerance))
        for frequency in sorted({frequency for found in frequencies.values() for frequency in found})
    }
    fixed = sorted({span for found in spans.values() for span in found})
    away = {span: drawn(fixed, *span) for span in fixed}
    return (
        {which: [moved[frequency] for frequency in found] for which, found in frequencies.items()},
        {
            which: [(low * away[low, high], high * away[low, high]) for low, high in found]
            for which, found in spans.items()
        },
    )
