"""Schedulers whose learning rate is a function of the step alone, and checks that schedules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dovetail.kernel.kind import Limit


class Curve(Protocol):
    """A learning rate over time."""

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``, 0 before the first update, of a group whose base rate is ``base``."""


class ClosedFormLR(LRScheduler):
    """Sets each group's learning rate to ``curve(step, base)``.

    Torch's own schedulers multiply the current rate by a ratio, so a rounding error or a lost rate stays for good. Here
    the step is the whole state: loaded at any step, even into a new optimizer, the rates continue unchanged.

    Args:
        optimizer: its groups' current learning rates are the base rates.
        curve: the learning rate over time.
    """

    def __init__(self, optimizer: Optimizer, curve: Curve) -> None:
        self.curve = curve
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each group at the current step."""
        return [self.curve(self.last_epoch, float(base)) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the step and the base rates, as plain numbers."""
        return {
            "last_epoch": self.last_epoch,
            "step_count": self._step_count,
            "base_lrs": [float(base) for base in self.base_lrs],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to a saved step, and set the optimizer's learning rates for it.

        Raises:
            ValueError: the state was saved for a different number of parameter groups.
        """
        check_groups(len(state_dict["base_lrs"]), self.optimizer)
        self.base_lrs = list(state_dict["base_lrs"])
        self._step_count = state_dict["step_count"]
        self.last_epoch = state_dict["last_epoch"] - 1
        self._update_lr()  # adds 1 to last_epoch, as a step does


def check_groups(saved: int, optimizer: Optimizer) -> None:
    """Raise ValueError if a state saved for ``saved`` parameter groups does not fit the optimizer."""
    if saved != len(optimizer.param_groups):
        raise ValueError(
            f"the scheduler was saved for {saved} parameter groups, but the optimizer has {len(optimizer.param_groups)}"
        )


def check_limit(name: str, value: float, limit: Limit, unit: str = "") -> None:
    """Raise ValueError if the option ``name`` is outside its limit."""
    problem = limit.problem(value)
    if problem:
        raise ValueError(f"{name}: {problem}{unit}, got {value:g}")


def check_below_base(name: str, floor: float, optimizer: Optimizer) -> None:
    """Raise ValueError if a schedule's lowest learning rate is negative, or above every rate of the optimizer."""
    if not floor >= 0:
        raise ValueError(f"{name}: must be at least 0, got {floor:g}")
    highest = max(float(group["lr"]) for group in optimizer.param_groups)
    if floor > highest:
        raise ValueError(
            f"{name}: {floor:g} is above the optimizer's learning rate {highest:g}, so the schedule would raise it"
        )
