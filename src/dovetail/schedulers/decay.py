"""Schedulers that lower the learning rate: step, exponential and polynomial decay, and reduction on a plateau."""

from __future__ import annotations

import math
from typing import Annotated, Literal, SupportsFloat

from attrs import frozen
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dovetail.schedulers.closed_form import ClosedFormLR, check_below_base, check_limit
from dovetail.spec import AtLeast, MoreThan, Provided


@frozen
class StepCurve:
    """``base · gamma^⌊step / step_size⌋``."""

    step_size: int
    gamma: float

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
        return base * self.gamma ** (step // self.step_size)


def step(
    optimizer: Optimizer,
    *,
    step_size: Annotated[int, AtLeast(1)] = 10,
    gamma: Annotated[float, MoreThan(0)] = 0.1,
) -> ClosedFormLR:
    """Return a scheduler that multiplies the learning rate by ``gamma`` every ``step_size`` epochs.

    Args:
        optimizer: the run provides it.
        step_size: epochs between two changes; updates, with ``every = "update"``.
        gamma: the factor, above 0.

    Raises:
        ValueError: ``step_size`` is below 1, or ``gamma`` is not above 0.
    """
    check_limit("step_size", step_size, AtLeast(1))
    check_limit("gamma", gamma, MoreThan(0))
    return ClosedFormLR(optimizer, StepCurve(step_size, gamma))


def exponential(optimizer: Optimizer, *, gamma: Annotated[float, MoreThan(0)] = 0.95) -> ClosedFormLR:
    """Return a scheduler that multiplies the learning rate by ``gamma`` every epoch.

    With ``every = "update"``, it does so every update.

    Args:
        optimizer: the run provides it.
        gamma: the factor, above 0.

    Raises:
        ValueError: ``gamma`` is not above 0.
    """
    check_limit("gamma", gamma, MoreThan(0))
    return ClosedFormLR(optimizer, StepCurve(1, gamma))


@frozen
class PolynomialCurve:
    """``floor + (base - floor) · (1 - step / period)^power``, then ``floor``."""

    period: int
    power: float
    floor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
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
    """Return a scheduler that lowers the learning rate as a power of the remaining time, then keeps it constant.

    Args:
        optimizer: the run provides it.
        total_steps: scheduler steps in the whole run; the run provides them.
        steps_per_epoch: scheduler steps per epoch, 1 if it steps per epoch; the run provides them.
        total_epochs: epochs until the lowest rate; by default the whole run.
        power: 1 is a straight line; the higher the power, the sooner the rate falls.
        min_lr: the lowest rate, ≥ 0.

    Raises:
        ValueError: ``total_epochs`` is below 1, ``power`` is not above 0, or ``min_lr`` is negative or above the
            optimizer's learning rate.
    """
    if total_epochs is not None:
        check_limit("total_epochs", total_epochs, AtLeast(1), " epoch")
    check_limit("power", power, MoreThan(0))
    check_below_base("min_lr", min_lr, optimizer)
    period = max(total_steps, 1) if total_epochs is None else total_epochs * steps_per_epoch
    return ClosedFormLR(optimizer, PolynomialCurve(period, power, min_lr))


class Plateau(ReduceLROnPlateau):
    """Torch's scheduler, with a relative threshold that also holds for negative values.

    Torch multiplies the best value by ``1 ± threshold``, and so takes a slightly worse negative value for a better one.
    """

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override] # as torch's
        """Step with the value of the metric."""
        threshold, mode = self.threshold, self.threshold_mode
        if mode == "rel" and -math.inf < self.best < 0:
            self.threshold, self.threshold_mode = threshold * -self.best, "abs"
        try:
            super().step(metrics, epoch)
        finally:
            self.threshold, self.threshold_mode = threshold, mode


def plateau(
    optimizer: Optimizer,
    *,
    mode: Annotated[Literal["min", "max"], Provided] = "min",
    factor: Annotated[float, AtLeast(0)] = 0.1,
    patience: Annotated[int, AtLeast(0)] = 10,
    threshold: Annotated[float, AtLeast(0)] = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: Annotated[int, AtLeast(0)] = 0,
    min_lr: Annotated[float, AtLeast(0)] = 0.0,
) -> Plateau:
    """Return torch's ``ReduceLROnPlateau``; the run steps it with the metric that ``monitor`` names.

    It steps after each epoch that had a validation, if the metric is one of validation.

    Args:
        optimizer: the run provides it.
        mode: whether the metric should fall (``"min"``) or rise (``"max"``); by default the run provides what the
            metric, or its name, says.
        factor: multiplies the learning rate at a reduction, at least 0 and below 1.
        patience: steps without improvement before a reduction.
        threshold: the least change that counts as an improvement, read as ``threshold_mode`` says.
        threshold_mode: a fraction of the best value so far (``"rel"``), or a difference from it (``"abs"``).
        cooldown: steps after a reduction in which ``patience`` does not count.
        min_lr: the lowest rate.

    Raises:
        ValueError: ``factor`` is negative, or not below 1.
    """
    if not 0 <= factor < 1:
        raise ValueError(f"factor: must be at least 0 and below 1, got {factor:g}")
    return Plateau(
        optimizer,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_lr=min_lr,
    )
