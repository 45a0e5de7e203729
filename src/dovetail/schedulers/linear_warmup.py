"""Linear warm-up, then a constant rate."""

from __future__ import annotations

from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR
from dovetail.schedulers.warmup import Warmup, WarmupCurve, warmup_steps


def linear_warmup(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, *, warmup: Warmup = 0.1
) -> ClosedFormLR:
    """Return a scheduler that raises the rate in a straight line to the optimizer's, and keeps it there.

    Args:
        optimizer: the run provides it; its learning rate is the highest.
        total_steps: steps of the scheduler in the whole run, which provides it.
        steps_per_epoch: steps of the scheduler per epoch; the run provides it.
        warmup: how long the rate rises: a share of the run (``0.1``), steps (``500``), or ``{ epochs = 2 }``.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    return ClosedFormLR(optimizer, WarmupCurve(warmup_steps(warmup, total_steps, steps_per_epoch)))
