"""Linear warm-up, then cosine annealing."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR, require_below
from dovetail.schedulers.cosine import CosineCurve
from dovetail.schedulers.warmup import Warmup, WarmupCurve, warmup_steps
from dovetail.spec.limits import AtLeast


@frozen
class WarmupCosineCurve:
    """A warm-up, and a cosine that begins where that ends."""

    warmup: WarmupCurve
    cosine: CosineCurve

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        if step < self.warmup.steps:
            return self.warmup(step, base)
        return self.cosine(step - self.warmup.steps, base)


def warmup_cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup: Warmup = 0.1,
    min_lr: Annotated[float, AtLeast(0)] = 1e-7,
) -> ClosedFormLR:
    """Return a scheduler that raises the rate in a straight line, then lowers it along half a cosine to the end.

    Args:
        optimizer: the run provides it; its learning rate is the highest.
        total_steps: steps of the scheduler in the whole run, which provides it.
        steps_per_epoch: steps of the scheduler per epoch; the run provides it.
        warmup: how long the rate rises: a share of the run (``0.1``), steps (``500``), or ``{ epochs = 2 }``.
        min_lr: the lowest rate, ≥ 0, reached after the last step.

    Raises:
        ValueError: the warm-up is longer than the run, or ``min_lr`` negative or above the optimizer's
            learning rate.
    """
    if min_lr < 0:
        msg = f"min_lr: must be at least 0, got {min_lr:g}"
        raise ValueError(msg)
    require_below("min_lr", min_lr, optimizer)
    steps = warmup_steps(warmup, total_steps, steps_per_epoch)
    curve = WarmupCosineCurve(WarmupCurve(steps), CosineCurve(max(total_steps - steps, 1), min_lr))
    return ClosedFormLR(optimizer, curve)
