"""Schedules of transformers by name, from Python. Lengths are counted in steps of the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dovetail.pieces.schedulers import by_name
from dovetail.schedulers import ClosedFormLR, noam, warmup_cosine, warmup_linear


def create_warmup_cosine_schedule(
    optimizer: Optimizer, warmup_epochs: int, total_epochs: int, min_lr: float = 1e-7
) -> ClosedFormLR:
    """Return a linear warm-up, then half a cosine; errors as for ``warmup_cosine``."""
    return warmup_cosine(optimizer, total_epochs, 1, warmup=warmup_epochs, min_lr=min_lr)


def create_warmup_linear_schedule(optimizer: Optimizer, warmup_epochs: int, total_epochs: int) -> ClosedFormLR:
    """Return a linear warm-up, then a straight line down to 0; errors as for ``warmup_linear``."""
    return warmup_linear(optimizer, total_epochs, 1, warmup=warmup_epochs)


def create_noam_schedule(optimizer: Optimizer, d_model: int = 256, warmup_steps: int = 4000) -> ClosedFormLR:
    """Return the transformer's own schedule; errors as for ``noam``."""
    return noam(optimizer, d_model=d_model, warmup_steps=warmup_steps)


class WarmupCosineScheduler(ClosedFormLR):
    """A linear warm-up, then half a cosine down to ``min_lr``.

    Args:
        optimizer: its groups' rates at this moment are the highest; with ``last_epoch``, their ``initial_lr`` is.
        warmup_epochs: steps until the highest rate.
        total_epochs: steps until the lowest.
        min_lr: the lowest rate.
        last_epoch: the last step that was made; -1 to begin.

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
        made = create_warmup_cosine_schedule(optimizer, warmup_epochs, total_epochs, min_lr)
        super().__init__(optimizer, made.curve)
        if last_epoch >= 0:
            self.load_state_dict({**self.state_dict(), "last_epoch": last_epoch + 1, "step_count": last_epoch + 2})


_FACTORIES: Final[dict[str, Callable[..., LRScheduler]]] = {
    "warmup_cosine": create_warmup_cosine_schedule,
    "warmup_linear": create_warmup_linear_schedule,
    "noam": create_noam_schedule,
}


def get_scheduler(optimizer: Optimizer, scheduler_type: str, **kwargs: Any) -> LRScheduler:
    """Return the schedule of that name.

    Args:
        optimizer: the optimizer.
        scheduler_type: ``"warmup_cosine"``, ``"warmup_linear"`` or ``"noam"``.
        kwargs: what that schedule takes.

    Raises:
        ValueError: there is no schedule of that name, or it has no such option; the nearest is suggested.
    """
    return by_name(_FACTORIES, scheduler_type, optimizer, kwargs)
