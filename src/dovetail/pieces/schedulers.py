"""Schedulers by name, from Python, stepped once per epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dovetail.config.diagnostics import suggest, unknown
from dovetail.schedulers import (
    ClosedFormLR,
    WarmupScheduler,
    cosine,
    exponential,
    one_cycle,
    plateau,
    step,
    warm_restarts,
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
    """Return one cycle over ``total_steps``, momentum too; errors as for ``one_cycle``."""
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
    """Return a reduction where a metric stops improving, one that is to go up by default; errors as for ``plateau``."""
    return plateau(optimizer, mode=mode, factor=factor, patience=patience)


class PolynomialLRScheduler(ClosedFormLR):
    """Polynomial decay over ``total_epochs`` steps.

    Args:
        optimizer: its groups' rates at this moment are the highest.
        total_epochs: steps until the lowest rate, at least 1.
        power: 1 is a straight line; the higher, the sooner the rate falls.
        min_lr: the lowest rate.

    Raises:
        ValueError: ``total_epochs`` is below 1, or ``min_lr`` above the optimizer's learning rate.
    """

    def __init__(self, optimizer: Optimizer, total_epochs: int, power: float = 2.0, min_lr: float = 1e-7) -> None:
        if total_epochs < 1:
            msg = f"total_epochs: must be at least 1 epoch, got {total_epochs}"
            raise ValueError(msg)
        check_below_base("min_lr", min_lr, optimizer)
        super().__init__(optimizer, PolynomialCurve(total_epochs, power, min_lr))


_FACTORIES: Final[dict[str, Callable[..., LRScheduler]]] = {
    "step": create_step_scheduler,
    "exponential": create_exponential_scheduler,
    "cosine": create_cosine_scheduler,
    "cosine_restarts": create_cosine_warmrestarts_scheduler,
    "onecycle": create_onecycle_scheduler,
    "plateau": create_plateau_scheduler,
    "polynomial": PolynomialLRScheduler,
    "warmup": WarmupScheduler,
}


def get_scheduler(scheduler_type: str, optimizer: Optimizer, **kwargs: Any) -> LRScheduler:
    """Return the scheduler of that name.

    Args:
        scheduler_type: ``"step"``, ``"exponential"``, ``"cosine"``, ``"cosine_restarts"``, ``"onecycle"``,
            ``"plateau"``, ``"polynomial"`` or ``"warmup"``.
        optimizer: the optimizer.
        kwargs: what that scheduler takes.

    Raises:
        ValueError: there is no scheduler of that name, or it has no such option; the nearest is suggested.
    """
    return by_name(_FACTORIES, scheduler_type, optimizer, kwargs)


def create_scheduler(optimizer: Optimizer, scheduler_type: str = "step", **kwargs: Any) -> LRScheduler:
    """Return the scheduler of that name; arguments and errors as for :func:`get_scheduler`."""
    return get_scheduler(scheduler_type, optimizer, **kwargs)


def by_name(
    factories: dict[str, Callable[..., LRScheduler]], name: str, optimizer: Optimizer, options: Mapping[str, Any]
) -> LRScheduler:
    """Return what the factory of that name makes.

    Raises:
        ValueError: there is none, or it has no such option; the nearest is suggested.
    """
    if name not in factories:
        raise unknown("scheduler_type", "scheduler", name, factories)
    factory = factories[name]
    takes = list(inspect.signature(factory).parameters)[1:]
    odd = next((one for one in options if one not in takes), None)
    if odd is not None:
        msg = f"{name} has no option '{odd}'{suggest(odd, takes)}; it has {', '.join(takes)}"
        raise ValueError(msg)
    return factory(optimizer, **options)
