"""Polynomial decay."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR, require_below
from dovetail.spec.limits import AtLeast, MoreThan


@frozen
class PolynomialCurve:
    """``floor + (base - floor) · (1 - step / period)^power``, then ``floor``."""

    period: int
    power: float
    floor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        floor = min(self.floor, base)
        return floor + (base - floor) * float((1 - min(step / self.period, 1.0)) ** self.power)


def polynomial(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    total_epochs: Annotated[int, AtLeast(1)] | None = None,
    power: Annotated[float, MoreThan(0)] = 2.0,
    min_lr: Annotated[float, AtLeast(0)] = 1e-7,
) -> ClosedFormLR:
    """Return a scheduler that lowers the rate as a power of the time that is left, and then keeps it.

    Args:
        optimizer: the run provides it.
        total_steps: steps of the scheduler in the whole run, which provides it.
        steps_per_epoch: steps of the scheduler per epoch (1 where it steps per epoch); the run provides it.
        total_epochs: epochs until the lowest rate; by default the whole run.
        power: 1 is a straight line; the higher, the sooner the rate falls.
        min_lr: the lowest rate, ≥ 0.

    Raises:
        ValueError: ``total_epochs`` is below 1, ``power`` not above 0, or ``min_lr`` negative or above the optimizer's
            learning rate.
    """
    if total_epochs is not None and total_epochs < 1:
        msg = f"total_epochs: must be at least 1 epoch, got {total_epochs}"
        raise ValueError(msg)
    if power <= 0:
        msg = f"power: must be above 0, got {power:g}"
        raise ValueError(msg)
    if min_lr < 0:
        msg = f"min_lr: must be at least 0, got {min_lr:g}"
        raise ValueError(msg)
    require_below("min_lr", min_lr, optimizer)
    period = max(total_steps, 1) if total_epochs is None else total_epochs * steps_per_epoch
    return ClosedFormLR(optimizer, PolynomialCurve(period, power, min_lr))
