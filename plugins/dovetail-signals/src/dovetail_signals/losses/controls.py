"""Controls for a loss that claims to know physics: the same loss, told something wrong.

What a network gains from the right frequencies it must not gain from those of other classes, nor from any others: then
it was the seed, or any term of that form. A run of each, with as many seeds as the real one, tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Literal

Frequencies = Mapping[int, Sequence[float]]
Spans = Mapping[int, Sequence[tuple[float, float]]]
Control = Literal["none", "scrambled", "random"]

_REACH: Final = 2.0  # random frequencies lie between the lowest divided by it and the highest times it
_TRIES: Final = 1000


def apply_control(
    frequencies: Frequencies, spans: Spans, control: Control, seed: int, tolerance: float
) -> tuple[Frequencies, Spans]:
    """Return what a control makes of the frequencies of classes, and of their further bands.

    Args:
        frequencies: of each class.
        spans: further bands of each class.
        control: ``none`` leaves all as it is; ``scrambled`` gives classes the frequencies and bands of others;
            ``random`` gives each as many, drawn evenly in their logarithm from half of the lowest to twice the highest
            of all, bands as wide as theirs, away from every true one.
        seed: of what is drawn.
        tolerance: half the width of a band around a frequency, as a share of it.

    Raises:
        ValueError: nothing can be scrambled, as all classes have the same, or there is no room away from the true ones.
    """
    if control == "scrambled":
        return _scrambled(frequencies, spans, Random(seed))  # noqa: S311 (an experiment's, nobody's secret)
    if control == "random":
        return _randomised(frequencies, spans, tolerance, Random(seed))  # noqa: S311 (as above)
    return frequencies, spans


def _scrambled(frequencies: Frequencies, spans: Spans, random: Random) -> tuple[Frequencies, Spans]:
    """Exchange what classes have: those that had the same have the same again, and none keeps its own."""
    classes = sorted({*frequencies, *spans})
    owned = {which: (tuple(frequencies.get(which, ())), tuple(spans.get(which, ()))) for which in classes}
    kinds = sorted(set(owned.values()))
    if len(kinds) < 2:  # noqa: PLR2004 (one alone has nobody to exchange with)
        raise ValueError('control = "scrambled" needs classes of different frequencies, these have all the same')
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
        """Return the centre of a band from ``low`` to ``high``, moved to where none of these lies."""
        bottom = min(max(start, other / 100) for start, other in among) / _REACH  # 0 has no logarithm
        top = max(start for _, start in among) * _REACH
        for _ in range(_TRIES):
            factor = math.exp(random.uniform(math.log(bottom), math.log(top))) / math.sqrt(max(low, bottom) * high)
            if all(high * factor <= start or low * factor >= end for start, end in among):
                return factor
        raise ValueError('control = "random": the true bands leave no room for others')

    # The same true frequency gets the same random one wherever it stands, so that classes share what they shared.
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
