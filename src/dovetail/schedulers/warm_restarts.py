"""Cosine annealing with warm restarts: Loshchilov and Hutter, «SGDR: stochastic gradient descent with warm restarts».

ICLR 2017, equation 5.
"""

from __future__ import annotations

import math
from typing import Annotated

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR, require_below
from dovetail.spec.limits import AtLeast


@frozen
class WarmRestartsCurve:
    """Half a cosine from ``base`` down to ``floor``, over and over, each ``growth`` times as long as the one before."""

    first: int
    growth: int
    floor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        length = self.first
        if self.growth == 1:
            step %= length
        while step >= length:
            step -= length
            length *= self.growth
        floor = min(self.floor, base)
        return floor + (base - floor) * (1 + math.cos(math.pi * step / length)) / 2


def warm_restarts(
    optimizer: Optimizer,
    steps_per_epoch: int,
    *,
    T_0: Annotated[int, AtLeast(1)] = 10,  # noqa: N803 (torch's own name for it)
    T_mult: Annotated[int, AtLeast(1)] = 2,  # noqa: N803 (torch's own name for it)
    eta_min: Annotated[float, AtLeast(0)] = 1e-6,
) -> ClosedFormLR:
    """Return a scheduler that lowers the rate along half a cosine, jumps back up, and begins again.

    It is torch's ``CosineAnnealingWarmRestarts``.

    Args:
        optimizer: the run provides it.
        steps_per_epoch: steps of the scheduler per epoch (1 where it steps per epoch); the run provides it.
        T_0: epochs until the first restart.
        T_mult: how many times as long each next period is.
        eta_min: the lowest rate, ≥ 0.

    Raises:
        ValueError: ``T_0`` or ``T_mult`` is below 1, or ``eta_min`` negative or above the optimizer's learning rate.
    """
    for name, value in (("T_0", T_0), ("T_mult", T_mult)):
        if value < 1:
            msg = f"{name}: must be at least 1, got {value}"
            raise ValueError(msg)
    if eta_min < 0:
        msg = f"eta_min: must be at least 0, got {eta_min:g}"
        raise ValueError(msg)
    require_below("eta_min", eta_min, optimizer)
    return ClosedFormLR(optimizer, WarmRestartsCurve(T_0 * steps_per_epoch, T_mult, eta_min))
