"""One cycle: Smith and Topin, «Super-convergence: very fast training using large learning rates», 2018."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR
from dovetail.spec.limits import AtLeast, Between, MoreThan


@frozen
class Cycle:
    """From ``start`` to ``peak`` by the step ``turn``, on to ``end`` by the step ``last``, and there it stays."""

    turn: float
    last: float
    shape: Literal["cos", "linear"]

    def __call__(self, step: int, start: float, peak: float, end: float) -> float:
        """Return the value at ``step``."""
        if step <= self.turn:
            return self._between(start, peak, step / self.turn if self.turn > 0 else 1.0)
        share = (step - self.turn) / (self.last - self.turn) if step < self.last else 1.0
        return self._between(peak, end, share)

    def _between(self, here: float, there: float, share: float) -> float:
        if self.shape == "linear":
            return here + (there - here) * share
        return there + (here - there) * (1 + math.cos(math.pi * share)) / 2


@frozen
class OneCycleCurve:
    """A cycle of the learning rate: up from ``peak / div_factor``, down to that over ``final_div_factor``."""

    cycle: Cycle
    #: None for the group's own rate.
    peak: float | None
    div_factor: float
    final_div_factor: float

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        peak = base if self.peak is None else self.peak
        start = peak / self.div_factor
        return self.cycle(step, start, peak, start / self.final_div_factor)


class MomentumCycleLR(ClosedFormLR):
    """A closed-form schedule that moves momentum, or Adam's first beta, along with the rate.

    Args:
        optimizer: its groups' rates at this moment are the bases.
        curve: the rate over time.
        momentum: the momentum over time.
    """

    def __init__(self, optimizer: Optimizer, curve: OneCycleCurve, momentum: tuple[float, float]) -> None:
        self._low, self._high = momentum
        self._cycle = curve.cycle
        super().__init__(optimizer, curve)

    def get_lr(self) -> list[Any]:
        """Return the rate of each group at the current step, and set their momentum."""
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
    """Return a scheduler that raises the rate for a part of the run and lowers it far below for the rest.

    It is torch's ``OneCycleLR`` of two phases, made for a run of any length: beyond its end it stays where it is.

    Args:
        optimizer: the run provides it.
        total_steps: steps of the scheduler in the whole run, which provides it.
        max_lr: the highest rate, of every group; by default each group's own.
        pct_start: share of the run in which the rate rises, 0 to 1.
        anneal_strategy: the shape of both parts: half a cosine, or a straight line.
        cycle_momentum: move momentum (or Adam's first beta) the other way: high where the rate is low.
        base_momentum: the lowest momentum, at the highest rate.
        max_momentum: the highest momentum, at both ends.
        div_factor: the first rate is ``max_lr / div_factor``.
        final_div_factor: the last rate is the first over ``final_div_factor``.

    Raises:
        ValueError: an option is out of its range, or the optimizer has no momentum to move.
    """
    _check(max_lr, pct_start, {"div_factor": div_factor, "final_div_factor": final_div_factor})
    last = max(total_steps - 1, 1)
    cycle = Cycle(pct_start * total_steps - 1, last, anneal_strategy)
    curve = OneCycleCurve(cycle, max_lr, div_factor, final_div_factor)
    if not cycle_momentum:
        return ClosedFormLR(optimizer, curve)
    if not optimizer.defaults.keys() & {"momentum", "betas"}:
        who = type(optimizer).__name__
        msg = f"cycle_momentum: {who} has no momentum to move; set cycle_momentum = false"
        raise ValueError(msg)
    return MomentumCycleLR(optimizer, curve, (base_momentum, max_momentum))


def _check(max_lr: float | None, pct_start: float, factors: Mapping[str, float]) -> None:
    if max_lr is not None and max_lr <= 0:
        msg = f"max_lr: must be above 0, got {max_lr:g}"
        raise ValueError(msg)
    if not 0 <= pct_start <= 1:
        msg = f"pct_start: must be between 0 and 1, got {pct_start:g}"
        raise ValueError(msg)
    for name, value in factors.items():
        if value < 1:
            msg = f"{name}: must be at least 1, got {value:g}"
            raise ValueError(msg)
