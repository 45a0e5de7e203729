"""Exponential decay."""

from __future__ import annotations

from typing import Annotated

from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR
from dovetail.schedulers.step import StepCurve
from dovetail.spec.limits import MoreThan


def exponential(optimizer: Optimizer, *, gamma: Annotated[float, MoreThan(0)] = 0.95) -> ClosedFormLR:
    """Return a scheduler that multiplies the rate by ``gamma`` every epoch, or every update with ``every = "update"``.

    Args:
        optimizer: the run provides it.
        gamma: the factor, above 0.

    Raises:
        ValueError: ``gamma`` is not above 0.
    """
    if gamma <= 0:
        msg = f"gamma: must be above 0, got {gamma:g}"
        raise ValueError(msg)
    return ClosedFormLR(optimizer, StepCurve(1, gamma))
