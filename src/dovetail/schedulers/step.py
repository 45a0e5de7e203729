"""Step decay."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR
from dovetail.spec.limits import AtLeast, MoreThan


@frozen
class StepCurve:
    """``base · gamma^⌊step / step_size⌋``."""

    step_size: int
    gamma: float

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        return base * self.gamma ** (step // self.step_size)


def step(
    optimizer: Optimizer,
    *,
    step_size: Annotated[int, AtLeast(1)] = 10,
    gamma: Annotated[float, MoreThan(0)] = 0.1,
) -> ClosedFormLR:
    """Return a scheduler that multiplies the rate by ``gamma`` every ``step_size`` epochs.

    Args:
        optimizer: the run provides it.
        step_size: epochs between two changes; updates, with ``every = "update"``.
        gamma: the factor, above 0.

    Raises:
        ValueError: ``step_size`` is below 1, or ``gamma`` not above 0.
    """
    if step_size < 1:
        msg = f"step_size: must be at least 1, got {step_size}"
        raise ValueError(msg)
    if gamma <= 0:
        msg = f"gamma: must be above 0, got {gamma:g}"
        raise ValueError(msg)
    return ClosedFormLR(optimizer, StepCurve(step_size, gamma))
