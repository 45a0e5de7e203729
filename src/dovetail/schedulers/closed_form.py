"""Schedulers whose learning rate is a function of the step alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Curve(Protocol):
    """A learning rate over time."""

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step`` (0 before the first update) of a group whose rate is ``base``."""


class ClosedFormLR(LRScheduler):
    """Sets each group's rate to ``curve(step, base)``.

    Torch's own schedulers multiply the current rate by a ratio, so an error, or a rate lost on the way, stays
    for good. Here the step is the whole state: loaded at any step, into a new optimizer too, the rates go on
    as if nothing had been.

    Args:
        optimizer: its groups' rates at this moment are the bases.
        curve: the rate over time.
    """

    def __init__(self, optimizer: Optimizer, curve: Curve) -> None:
        self.curve = curve
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Return the rate of each group at the current step."""
        return [self.curve(self.last_epoch, float(base)) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the step and the bases: plain numbers."""
        return {
            "last_epoch": self.last_epoch,
            "step_count": self._step_count,
            "base_lrs": [float(base) for base in self.base_lrs],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to a saved step, and set the optimizer's rates to it.

        Raises:
            ValueError: the optimizer has another number of groups than the saved one.
        """
        bases, groups = state_dict["base_lrs"], self.optimizer.param_groups
        if len(bases) != len(groups):
            msg = f"the scheduler was saved for {len(bases)} parameter groups, but the optimizer has {len(groups)}"
            raise ValueError(msg)
        self.base_lrs = list(bases)
        self._step_count = state_dict["step_count"]
        self.last_epoch = state_dict["last_epoch"] - 1
        self._update_lr()  # counts one up, as a step does


def require_below(name: str, floor: float, optimizer: Optimizer) -> None:
    """Raise ValueError if a schedule's floor is above every learning rate it is to lower."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if floor > max(rates):
        msg = f"{name}: {floor:g} is above the optimizer's learning rate {max(rates):g}, so the schedule would raise it"
        raise ValueError(msg)
