"""Named figures: which of two values is better, and which are numbers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from dovetail.metrics.direction import Direction

#: A tuple, because building ``int | float`` takes longer than the check itself.
_NUMBERS: Final = (int, float)


def better(value: float, than: float | None, mode: Direction, margin: float = 0.0) -> bool:
    """Return whether ``value`` beats ``than`` by more than ``margin``.

    A non-finite ``value`` never does; a ``than`` of None always loses.
    """
    if not math.isfinite(value):
        return False
    if than is None:
        return True
    return value < than - margin if mode == "min" else value > than + margin


def scalars(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that are numbers, without lists such as a confusion matrix."""
    return {name: float(value) for name, value in figures.items() if isinstance(value, _NUMBERS)}


def format_figures(figures: Mapping[str, float]) -> str:
    """Return figures in one line of text."""
    return ", ".join(f"{name} {value:.6g}" for name, value in figures.items())


def missing_metric(metric: str, known: Iterable[str]) -> str:
    """Return a message for a metric that is not among ``known``."""
    names = sorted(known)
    near = difflib.get_close_matches(metric, names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"there is {', '.join(names) or 'none'}"
    return f"there is no metric '{metric}'; {hint}"


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the learning rate as ``lr``, and those of further parameter groups as ``lr_group1`` and so on."""
    groups = enumerate(optimizer.param_groups)
    return {f"lr_group{number}" if number else "lr": float(group["lr"]) for number, group in groups}
