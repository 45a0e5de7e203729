"""Cosine annealing: Loshchilov and Hutter, «SGDR: stochastic gradient descent with warm restarts», 2017."""

from __future__ import annotations

import math
from typing import Annotated

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR, require_below
from dovetail.spec.limits import AtLeast


@frozen
class CosineCurve:
    """Half a cosine from ``base`` down to ``floor`` over ``period`` steps, then ``floor``."""

    period: int
    floor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
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
    """Return a scheduler that lowers the rate along half a cosine, and then keeps it.

    Up to ``T_max`` it is torch's ``CosineAnnealingLR``, which then goes up again; this one does not.

    Args:
        optimizer: the run provides it.
        total_steps: steps of the scheduler in the whole run, which provides it.
        steps_per_epoch: steps of the scheduler per epoch (1 where it steps per epoch); the run provides it.
        T_max: epochs until the lowest rate; by default the whole run.
        eta_min: the lowest rate, ≥ 0.

    Raises:
        ValueError: ``T_max`` is below 1, or ``eta_min`` negative or above the optimizer's learning rate.
    """
    if T_max is not None and T_max < 1:
        msg = f"T_max: must be at least 1 epoch, got {T_max}"
        raise ValueError(msg)
    if eta_min < 0:
        msg = f"eta_min: must be at least 0, got {eta_min:g}"
        raise ValueError(msg)
    require_below("eta_min", eta_min, optimizer)
    period = max(total_steps, 1) if T_max is None else T_max * steps_per_epoch
    return ClosedFormLR(optimizer, CosineCurve(period, eta_min))
