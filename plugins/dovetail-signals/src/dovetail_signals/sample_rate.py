"""A check of the ``sample_rate`` option of transforms and losses against the recordings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from dovetail import Run


def alert_on_nested_sample_rates(run: Run, part: object) -> None:
    """Apply :func:`alert_on_sample_rate` to a transform and to every transform inside it.

    Args:
        run: the run.
        part: a transform of the run. Its ``sample_rate`` is in Hz, its ``nested`` holds transforms by option path; it
            may lack both.
    """
    for inside, rate in _rates(part):
        alert_on_sample_rate(run, part, rate, inside)


def _rates(part: object, inside: str = "") -> Iterator[tuple[str, float]]:
    rate: float | None = getattr(part, "sample_rate", None)
    if rate is not None:
        yield inside, rate
    for option, transform in getattr(part, "nested", {}).items():
        yield from _rates(transform, f"{inside}.{option}")


def alert_on_sample_rate(run: Run, part: object, rate: float, inside: str = "") -> None:
    """Raise an alert if ``rate`` differs from the recordings' sampling rate.

    After `signals.angular_resampling` the rate is in samples per revolution, so there is nothing to compare.

    Args:
        run: its dataset may have the recordings' rate as ``sample_rate``, in Hz.
        part: a transform of the run, or its loss.
        rate: the ``sample_rate`` of the part, in Hz.
        inside: path of the option within the part that has this rate, such as ``".representation"``.
    """
    known: Any = getattr(run.parts.loaders.train.dataset, "sample_rate", None)
    path, before = "loss", []
    for name, transform in run.parts.transforms.items():
        if transform is part:
            path = f"transforms.{name}"
            break
        before.append(transform)
    if known is None or any(hasattr(transform, "samples_per_turn") for transform in before):
        return
    path += inside
    if not math.isclose(known, rate, rel_tol=1e-3):
        run.alert(
            "sample_rate",
            f"{path}.sample_rate is {rate:g} Hz, but the recordings have {known:g} Hz: its frequencies are wrong; "
            f"set it to {known:g}",
            about=path,
            cooldown=math.inf,
        )
