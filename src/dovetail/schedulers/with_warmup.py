"""Linear warm-up around any other scheduler.

The warm-up is a factor to the other's rate, as in Ma and Yarats, «On the adequacy of untuned warmup for adaptive
optimization», 2021: the other schedule runs from the first step, so it still ends where the run ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dovetail.schedulers.warmup import Warmup, WarmupCurve, warmup_steps
from dovetail.spec.protocols import Scheduler


class WarmupScheduler(LRScheduler):
    """Multiplies the rates that another scheduler sets by ``(step + 1) / (warmup_epochs + 1)``, at most 1.

    The other scheduler finds in the optimizer the rates that it has set itself, so it may be one that computes a rate
    from the last one, as most of torch's do.

    Args:
        optimizer: the other scheduler's.
        warmup_epochs: steps until the factor is 1; epochs, where it is stepped once per epoch.
        base_scheduler: the other scheduler, at its beginning.

    Raises:
        ValueError: ``warmup_epochs`` is negative.
    """

    def __init__(self, optimizer: Optimizer, warmup_epochs: int, base_scheduler: Any) -> None:
        if warmup_epochs < 0:
            msg = f"warmup_epochs: must be at least 0, got {warmup_epochs}"
            raise ValueError(msg)
        # Torch's own __init__ would set rates; here the other scheduler has done so.
        self.optimizer = optimizer
        self.base_scheduler = base_scheduler
        self.last_epoch = 0
        self._factor = WarmupCurve(warmup_epochs)
        self._take_over()

    def step(self, *arguments: Any) -> None:
        """Step the other scheduler, and set the rates."""
        self._set(self._rates)
        self.base_scheduler.step(*arguments)
        self.last_epoch += 1
        self._take_over()

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the other's rates before the factor, and the other's state."""
        return {
            "last_epoch": self.last_epoch,
            "rates": list(self._rates),
            "base_scheduler": self.base_scheduler.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to a saved step, and set the optimizer's rates to it.

        Raises:
            ValueError: the optimizer has another number of groups than the saved one.
        """
        rates, groups = list(state_dict["rates"]), self.optimizer.param_groups
        if len(rates) != len(groups):
            msg = f"the scheduler was saved for {len(rates)} parameter groups, but the optimizer has {len(groups)}"
            raise ValueError(msg)
        self.base_scheduler.load_state_dict(state_dict["base_scheduler"])
        self.last_epoch = state_dict["last_epoch"]
        self._set(rates)
        self._take_over()

    def _take_over(self) -> None:
        """Note the rates that the other scheduler has set, and set those times the factor."""
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._set([self._factor(self.last_epoch, rate) for rate in self._rates])
        self._last_lr: list[float | Tensor] = [group["lr"] for group in self.optimizer.param_groups]

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


class WarmupPlateau(WarmupScheduler):
    """A warm-up around a scheduler that is stepped with a metric."""

    def step(self, metrics: float) -> None:  # type: ignore[override] # as torch's ReduceLROnPlateau
        """Step the other scheduler with the metric, and set the rates."""
        super().step(metrics)


def with_warmup(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    base_scheduler: Scheduler,
    warmup: Warmup = 0.1,
) -> WarmupScheduler:
    """Return a scheduler that follows another one, its rate raised in a straight line at the beginning.

    Args:
        optimizer: the run provides it.
        total_steps: steps of the scheduler in the whole run, which provides it.
        steps_per_epoch: steps of the scheduler per epoch (1 where it steps per epoch); the run provides it.
        base_scheduler: the other scheduler; it is stepped as often as this one.
        warmup: how long the rate rises: a share of the run (``0.1``), steps (``5``), or ``{ epochs = 2 }``.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    steps = warmup_steps(warmup, total_steps, steps_per_epoch)
    takes_metric = "metrics" in inspect.signature(base_scheduler.step).parameters
    around = WarmupPlateau if takes_metric else WarmupScheduler
    return around(optimizer, steps, base_scheduler)
