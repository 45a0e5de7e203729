"""Cosine annealing, with and without warm restarts.

Loshchilov and Hutter, «SGDR: stochastic gradient descent with warm restarts», ICLR 2017, equation 5.
"""

from __future__ import annotations

import math
from typing import Annotated

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR, check_below_base, check_limit
from dovetail.spec import AtLeast


@frozen
class CosineCurve:
    """Half a cosine from ``base`` down to ``floor`` over ``period`` steps, then ``floor``."""

    period: int
    floor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
        floor = min(self.floor, base)
        progress = min(step / self.period, 1.0)
        return floor + (base - floor) * (1 + math.cos(math.pi * progress)) / 2


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    T_max: Annotated[int, AtLeast(1)] | None = None,  # noqa: N803 (torch's own name for it)
    eta_min: Annotated[float, AtLeast(0)] = 1e-6,
) -> ClosedFormLR:
    """Return a scheduler that lowers the learning rate along half a cosine, then keeps it constant.

    Up to ``T_max`` it equals torch's ``CosineAnnealingLR``, which rises again afterwards.

    Args:
        optimizer: the run provides it.
        total_steps: scheduler steps in the whole run; the run provides them.
        steps_per_epoch: scheduler steps per epoch, 1 if it steps per epoch; the run provides them.
        T_max: epochs until the lowest rate; by default the whole run.
        eta_min: the lowest rate, ≥ 0.

    Raises:
        ValueError: ``T_max`` is below 1, or ``eta_min`` is negative or above the optimizer's learning rate.
    """
    if T_max is not None:
        check_limit("T_max", T_max, AtLeast(1), " epoch")
    check_below_base("eta_min", eta_min, optimizer)
    period = max(total_steps, 1) if T_max is None else T_max * steps_per_epoch
    return ClosedFormLR(optimizer, CosineCurve(period, eta_min))


@frozen
class WarmRestartsCurve:
    """Repeated half cosines from ``base`` down to ``floor``, each ``growth`` times as long as the one before."""

    first: int
    growth: int
    floor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
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
    """Return a scheduler that lowers the learning rate along half a cosine, jumps back up, and repeats.

    It equals torch's ``CosineAnnealingWarmRestarts``.

    Args:
        optimizer: the run provides it.
        steps_per_epoch: scheduler steps per epoch, 1 if it steps per epoch; the run provides them.
        T_0: epochs until the first restart.
        T_mult: factor between the lengths of two successive periods.
        eta_min: the lowest rate, ≥ 0.

    Raises:
        ValueError: ``T_0`` or ``T_mult`` is below 1, or ``eta_min`` is negative or above the optimizer's learning rate.
    """
    check_limit("T_0", T_0, AtLeast(1))
    check_limit("T_mult", T_mult, AtLeast(1))
    check_below_base("eta_min", eta_min, optimizer)
    return ClosedFormLR(optimizer, WarmRestartsCurve(T_0 * steps_per_epoch, T_mult, eta_min))
