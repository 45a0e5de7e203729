"""Whether what a part is told of the sampling rate is what the recordings say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from dovetail import Run


def alert_on_nested_sample_rates(run: Run, part: object) -> None:
    """Do as :func:`alert_on_sample_rate` for a transform with a ``sample_rate`` and for what it is made of.

    Args:
        run: as there.
        part: a transform of the run. What it is made of is its ``held``: transforms by the options that name them.
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
    """Raise an alert where a part that sees the recordings as they are believes in another sampling rate.

    After `signals.angular_resampling` signals have a rate of their own, samples per turn, and nothing is said.

    Args:
        run: its dataset may tell the recordings' rate as ``sample_rate``, in Hz.
        part: a transform of the run, or its loss.
        rate: what the part believes, in Hz.
        inside: which of its options holds what believes it, as ``".representation"``.
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
        message = (
            f"{path}.sample_rate is {rate:g} Hz, but the recordings have {known:g} Hz: no frequency is what it seems"
        )
        run.alert("sample_rate", message, about=path, cooldown=math.inf)
