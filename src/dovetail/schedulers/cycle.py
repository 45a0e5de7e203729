"""The one-cycle schedule.

Smith and Topin, «Super-convergence: very fast training using large learning rates», 2018.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR, check_limit
from dovetail.spec import AtLeast, Between, MoreThan


@frozen
class Cycle:
    """A value that moves from ``start`` to ``peak`` at step ``turn``, then to ``end`` at step ``last``, and stays."""

    turn: float
    last: float
    shape: Literal["cos", "linear"]

    def __call__(self, step: int, start: float, peak: float, end: float) -> float:
        """Return the value at ``step``."""
        if step <= self.turn:
            return self._between(start, peak, step / self.turn if self.turn > 0 else 1.0)
        progress = (step - self.turn) / (self.last - self.turn) if step < self.last else 1.0
        return self._between(peak, end, progress)

    def _between(self, first: float, second: float, progress: float) -> float:
        if self.shape == "linear":
            return first + (second - first) * progress
        return second + (first - second) * (1 + math.cos(math.pi * progress)) / 2


@frozen
class OneCycleCurve:
    """The learning rate: ``peak / div_factor``, up to ``peak``, then down to the first over ``final_div_factor``."""

    cycle: Cycle
    #: The highest rate; None for each group's base rate.
    peak: float | None
    div_factor: float
    final_div_factor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
        peak = base if self.peak is None else self.peak
        start = peak / self.div_factor
        return self.cycle(step, start, peak, start / self.final_div_factor)


class MomentumCycleLR(ClosedFormLR):
    """Moves momentum, or Adam's first beta, against the learning rate.

    Args:
        optimizer: its groups' current learning rates are the base rates.
        curve: the learning rate over time.
        momentum: the lowest and the highest momentum.
    """

    def __init__(self, optimizer: Optimizer, curve: OneCycleCurve, momentum: tuple[float, float]) -> None:
        self._low, self._high = momentum
        self._cycle = curve.cycle
        super().__init__(optimizer, curve)

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each group at the current step, and set its momentum."""
        momentum = self._cycle(self.last_epoch, self._high, self._low, self._high)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum
        return super().get_lr()


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    *,
    max_lr: Annotated[float, MoreThan(0)] | None = None,
    pct_start: Annotated[float, Between(0, 1)] = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    cycle_momentum: bool = True,
    base_momentum: Annotated[float, Between(0, 1)] = 0.85,
    max_momentum: Annotated[float, Between(0, 1)] = 0.95,
    div_factor: Annotated[float, AtLeast(1)] = 25.0,
    final_div_factor: Annotated[float, AtLeast(1)] = 1e4,
) -> ClosedFormLR:
    """Return a scheduler that raises the learning rate, then lowers it far below the first rate by the end of the run.

    It equals torch's ``OneCycleLR`` with two phases. Beyond the end of the run, the rate stays constant.

    Args:
        optimizer: the run provides it.
        total_steps: scheduler steps in the whole run; the run provides them.
        max_lr: the highest rate of every group; by default each group's own rate.
        pct_start: fraction of the run in which the rate rises, 0 to 1.
        anneal_strategy: the shape of both phases: half a cosine, or a straight line.
        cycle_momentum: whether to move momentum, or Adam's first beta, the other way: high while the rate is low.
        base_momentum: the lowest momentum, at the highest rate.
        max_momentum: the highest momentum, at the start and the end.
        div_factor: the first rate is ``max_lr / div_factor``.
        final_div_factor: the last rate is the first over ``final_div_factor``.

    Raises:
        ValueError: an option is out of its range, or the optimizer has no momentum to move.
    """
    if max_lr is not None:
        check_limit("max_lr", max_lr, MoreThan(0))
    check_limit("pct_start", pct_start, Between(0, 1))
    check_limit("div_factor", div_factor, AtLeast(1))
    check_limit("final_div_factor", final_div_factor, AtLeast(1))
    last = max(total_steps - 1, 1)
    cycle = Cycle(pct_start * total_steps - 1, last, anneal_strategy)
    curve = OneCycleCurve(cycle, max_lr, div_factor, final_div_factor)
    if not cycle_momentum:
        return ClosedFormLR(optimizer, curve)
    if not optimizer.defaults.keys() & {"momentum", "betas"}:
        raise ValueError(
            f"cycle_momentum: {type(optimizer).__name__} has no momentum to move; set cycle_momentum = false"
        )
    return MomentumCycleLR(optimizer, curve, (base_momentum, max_momentum))
