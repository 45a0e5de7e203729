"""Learning rates of schedulers, for tests."""

from __future__ import annotations

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

RATES = (0.1, 0.4)


def optimizer(rates: tuple[float, ...] = RATES) -> SGD:
    """Return an optimizer with one group per rate."""
    return SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates])


def rates_over(scheduler: LRScheduler, steps: int) -> list[list[float]]:
    """Return the learning rates of all groups, before the first step and after each."""
    found = [[group["lr"] for group in scheduler.optimizer.param_groups]]
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step()
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
    return found


def assert_close(found: list[list[float]], expected: list[list[float]]) -> None:
    """Assert that two tables of learning rates agree up to rounding."""
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )
