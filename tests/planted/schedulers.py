"""A sound scheduler, and schedulers with one defect each."""

from __future__ import annotations

from torch.optim.lr_scheduler import LRScheduler


class Sawtooth(LRScheduler):
    """Decays linearly over ``period`` steps, then restarts; ``phase`` is the position. A sound scheduler."""

    def __init__(self, optimizer, period: int = 5):
        self.period = period
        self.phase = -1
        super().__init__(optimizer)

    def get_lr(self):
        """Return the rates."""
        return [base * (1 - self.phase / self.period) for base in self.base_lrs]

    def step(self, epoch=None):
        """Advance."""
        self.phase = (self.phase + 1) % self.period
        super().step()


class ForgetfulSawtooth(Sawtooth):
    """The same, with a state_dict that lacks ``phase``."""

    def state_dict(self):
        """Return the state without ``phase``."""
        return {name: value for name, value in super().state_dict().items() if name != "phase"}


class NegativeRate(Sawtooth):
    """Decays below 0."""

    def get_lr(self):
        """Return the rates."""
        return [base * (0.5 - self.phase / self.period) for base in self.base_lrs]


class MeddlingScheduler(Sawtooth):
    """Also changes weight decay."""

    def get_lr(self):
        """Return the rates."""
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.1 * self.phase
        return super().get_lr()
