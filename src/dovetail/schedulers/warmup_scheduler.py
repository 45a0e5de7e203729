"""A linear warm-up around any other scheduler.

The warm-up multiplies the other scheduler's learning rate, as in Ma and Yarats, «On the adequacy of untuned warmup for
adaptive optimization», 2021. The other schedule runs from the first step, so it still ends with the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dovetail.schedulers.closed_form import check_groups, check_limit
from dovetail.schedulers.warmup import Warmup, WarmupCurve, warmup_steps
from dovetail.spec import AtLeast, Scheduler


class WarmupScheduler(LRScheduler):
    """Multiplies the learning rates of another scheduler by ``(step + 1) / (warmup_epochs + 1)``, at most 1.

    When the other scheduler steps, the optimizer holds the rates that it set itself. So it may compute each rate from
    the last one, as most of torch's schedulers do.

    Args:
        optimizer: the other scheduler's optimizer.
        warmup_epochs: steps until the factor is 1; epochs, if the scheduler steps once per epoch.
        base_scheduler: the other scheduler, before its first step.

    Raises:
        ValueError: ``warmup_epochs`` is negative.
    """

    def __init__(self, optimizer: Optimizer, warmup_epochs: int, base_scheduler: Any) -> None:
        check_limit("warmup_epochs", warmup_epochs, AtLeast(0))
        # Torch's own __init__ would set rates; the other scheduler has set them already.
        self.optimizer = optimizer
        self.base_scheduler = base_scheduler
        self.last_epoch = 0
        self._factor = WarmupCurve(warmup_epochs)
        self._apply_factor()

    def step(self, *arguments: Any) -> None:
        """Step the other scheduler, and set the learning rates."""
        self._set(self._rates)
        self.base_scheduler.step(*arguments)
        self.last_epoch += 1
        self._apply_factor()

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the rates before the factor, and the other scheduler's state."""
        return {
            "last_epoch": self.last_epoch,
            "rates": list(self._rates),
            "base_scheduler": self.base_scheduler.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to a saved step, and set the optimizer's learning rates for it.

        Raises:
            ValueError: the state was saved for a different number of parameter groups.
        """
        rates = list(state_dict["rates"])
        check_groups(len(rates), self.optimizer)
        self.base_scheduler.load_state_dict(state_dict["base_scheduler"])
        self.last_epoch = state_dict["last_epoch"]
        self._set(rates)
        self._apply_factor()

    def _apply_factor(self) -> None:
        """Store the rates that the other scheduler set, and multiply the optimizer's rates by the factor."""
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
    """A warm-up around a scheduler whose ``step`` takes a metric."""

    @property
    def mode(self) -> str | None:
        """Which direction of the metric the other scheduler takes for better; None if it has no such attribute."""
        return getattr(self.base_scheduler, "mode", None)

    def step(self, metrics: float) -> None:  # type: ignore[override] # like torch's ReduceLROnPlateau
        """Step the other scheduler with the metric, and set the learning rates."""
        super().step(metrics)


def with_warmup(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    base_scheduler: Scheduler,
    warmup: Warmup = 0.1,
) -> WarmupScheduler:
    """Return a scheduler that adds a linear warm-up to another scheduler.

    Args:
        optimizer: the run provides it.
        total_steps: scheduler steps in the whole run; the run provides them.
        steps_per_epoch: scheduler steps per epoch, 1 if it steps per epoch; the run provides them.
        base_scheduler: the other scheduler; it steps as often as this one.
        warmup: length of the warm-up: a fraction of the run (``0.1``), steps (``5``), or ``{ epochs = 2 }``.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    steps = warmup_steps(warmup, total_steps, steps_per_epoch)
    takes_metric = "metrics" in inspect.signature(base_scheduler.step).parameters
    wrapper = WarmupPlateau if takes_metric else WarmupScheduler
    return wrapper(optimizer, steps, base_scheduler)
