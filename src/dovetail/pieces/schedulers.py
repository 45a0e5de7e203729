"""Schedulers by name, from Python. Lengths are in steps of the scheduler, which may be epochs or updates."""

from __future__ import annotations

from typing import Any, Final, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dovetail.pieces.by_name import Factories
from dovetail.schedulers import (
    ClosedFormLR,
    WarmupScheduler,
    cosine,
    exponential,
    noam,
    one_cycle,
    plateau,
    step,
    warm_restarts,
    warmup_cosine,
    warmup_linear,
)
from dovetail.schedulers.closed_form import check_below_base
from dovetail.schedulers.decay import PolynomialCurve


def create_cosine_scheduler(optimizer: Optimizer, num_epochs: int, eta_min: float = 1e-6) -> ClosedFormLR:
    """Return cosine annealing over ``num_epochs``; errors as for ``cosine``."""
    return cosine(optimizer, num_epochs, 1, T_max=num_epochs, eta_min=eta_min)


def create_cosine_warmrestarts_scheduler(
    optimizer: Optimizer,
    T_0: int = 10,  # noqa: N803 (torch's own name for it)
    T_mult: int = 2,  # noqa: N803 (torch's own name for it)
    eta_min: float = 1e-6,
) -> ClosedFormLR:
    """Return cosine annealing with warm restarts; errors as for ``warm_restarts``."""
    return warm_restarts(optimizer, 1, T_0=T_0, T_mult=T_mult, eta_min=eta_min)


def create_onecycle_scheduler(
    optimizer: Optimizer, max_lr: float, total_steps: int, pct_start: float = 0.3
) -> ClosedFormLR:
    """Return one cycle of learning rate and momentum over ``total_steps``; errors as for ``one_cycle``."""
    return one_cycle(optimizer, total_steps, max_lr=max_lr, pct_start=pct_start)


def create_step_scheduler(optimizer: Optimizer, step_size: int = 10, gamma: float = 0.1) -> ClosedFormLR:
    """Return step decay; errors as for ``step``."""
    return step(optimizer, step_size=step_size, gamma=gamma)


def create_exponential_scheduler(optimizer: Optimizer, gamma: float = 0.95) -> ClosedFormLR:
    """Return exponential decay; errors as for ``exponential``."""
    return exponential(optimizer, gamma=gamma)


def create_plateau_scheduler(
    optimizer: Optimizer, mode: Literal["min", "max"] = "max", factor: float = 0.1, patience: int = 10
) -> ReduceLROnPlateau:
    """Return a decay when a metric stops improving, by default one that should rise; errors as for ``plateau``."""
    return plateau(optimizer, mode=mode, factor=factor, patience=patience)


def create_warmup_cosine_schedule(
    optimizer: Optimizer, warmup_epochs: int, total_epochs: int, min_lr: float = 1e-7
) -> ClosedFormLR:
    """Return a linear warm-up, then half a cosine; errors as for ``warmup_cosine``."""
    return warmup_cosine(optimizer, total_epochs, 1, warmup=warmup_epochs, min_lr=min_lr)


def create_warmup_linear_schedule(optimizer: Optimizer, warmup_epochs: int, total_epochs: int) -> ClosedFormLR:
    """Return a linear warm-up, then a linear decay to 0; errors as for ``warmup_linear``."""
    return warmup_linear(optimizer, total_epochs, 1, warmup=warmup_epochs)


def create_noam_schedule(optimizer: Optimizer, d_model: int = 256, warmup_steps: int = 4000) -> ClosedFormLR:
    """Return the schedule of the original transformer; errors as for ``noam``."""
    return noam(optimizer, d_model=d_model, warmup_steps=warmup_steps)


class PolynomialLRScheduler(ClosedFormLR):
    """Polynomial decay over ``total_epochs`` steps.

    Args:
        optimizer: its current learning rates are the highest.
        total_epochs: steps until the lowest learning rate, at least 1.
        power: 1 is linear; with a larger power the learning rate falls earlier.
        min_lr: the lowest learning rate.

    Raises:
        ValueError: ``total_epochs`` is below 1, or ``min_lr`` is above the optimizer's learning rate.
    """

    def __init__(self, optimizer: Optimizer, total_epochs: int, power: float = 2.0, min_lr: float = 1e-7) -> None:
        if total_epochs < 1:
            raise ValueError(f"total_epochs: must be at least 1 epoch, got {total_epochs}")
        check_below_base("min_lr", min_lr, optimizer)
        super().__init__(optimizer, PolynomialCurve(total_epochs, power, min_lr))


class WarmupCosineScheduler(ClosedFormLR):
    """A linear warm-up, then half a cosine down to ``min_lr``.

    Args:
        optimizer: its current learning rates are the highest; with ``last_epoch``, the ``initial_lr`` of its groups.
        warmup_epochs: steps until the highest learning rate.
        total_epochs: steps until the lowest learning rate.
        min_lr: the lowest learning rate.
        last_epoch: the zero-based index of the last step, to continue a schedule; -1 starts one.

    Raises:
        ValueError: as for ``warmup_cosine``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_epochs: int,
        total_epochs: int,
        min_lr: float = 1e-7,
        last_epoch: int = -1,
    ) -> None:
        schedule = create_warmup_cosine_schedule(optimizer, warmup_epochs, total_epochs, min_lr)
        super().__init__(optimizer, schedule.curve)
        if last_epoch >= 0:
            self.load_state_dict({**self.state_dict(), "last_epoch": last_epoch + 1, "step_count": last_epoch + 2})


_SCHEDULERS: Final = Factories[LRScheduler](
    "scheduler",
    "scheduler_type",
    {
        "step": create_step_scheduler,
        "exponential": create_exponential_scheduler,
        "cosine": create_cosine_scheduler,
        "cosine_restarts": create_cosine_warmrestarts_scheduler,
        "onecycle": create_onecycle_scheduler,
        "plateau": create_plateau_scheduler,
        "polynomial": PolynomialLRScheduler,
        "warmup": WarmupScheduler,
        "warmup_cosine": create_warmup_cosine_schedule,
        "warmup_linear": create_warmup_linear_schedule,
        "noam": create_noam_schedule,
    },
)


def get_scheduler(scheduler_type: str | Optimizer, optimizer: Optimizer | str, **kwargs: Any) -> LRScheduler:
    """Return the scheduler of that name.

    The documents have two functions of this name, for convolutional networks and for transformers, whose first two
    arguments differ in order. This function accepts both orders.

    Args:
        scheduler_type: ``"step"``, ``"exponential"``, ``"cosine"``, ``"cosine_restarts"``, ``"onecycle"``,
            ``"plateau"``, ``"polynomial"``, ``"warmup"``, ``"warmup_cosine"``, ``"warmup_linear"`` or ``"noam"``.
        optimizer: the optimizer.
        kwargs: the options of that scheduler.

    Raises:
        ValueError: there is no scheduler of that name, or it has no such option; the message suggests the nearest.
        TypeError: neither argument is a string.
    """
    if isinstance(optimizer, str):
        scheduler_type, optimizer = optimizer, scheduler_type
    return _SCHEDULERS.build(scheduler_type, optimizer, **kwargs)


def create_scheduler(optimizer: Optimizer, scheduler_type: str = "step", **kwargs: Any) -> LRScheduler:
    """Return the scheduler of that name; arguments and errors as for :func:`get_scheduler`."""
    return get_scheduler(scheduler_type, optimizer, **kwargs)
