"""Schedulers."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dovetail import AtLeast


class Sawtooth(LRScheduler):
    """The learning rate falls linearly to 0 over ``period`` updates, then starts again."""

    def __init__(self, optimizer: Optimizer, period: Annotated[int, AtLeast(1)] = 10) -> None:
        self.period = period
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rates."""
        left = 1 - (self.last_epoch % self.period) / self.period
        return [base * left for base in self.base_lrs]
