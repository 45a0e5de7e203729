"""Linear warm-up, then a straight line down to 0."""

from __future__ import annotations

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR
from dovetail.schedulers.warmup import Warmup, WarmupCurve, warmup_steps


@frozen
class WarmupLinearCurve:
    """A warm-up, and ``base · (end - step) / (end - warm-up)`` from where that ends, then 0."""

    warmup: WarmupCurve
    end: int

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        if step < self.warmup.steps:
            return self.warmup(step, base)
        return base * max(self.end - step, 0) / max(self.end - self.warmup.steps, 1)


def warmup_linear(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, *, warmup: Warmup = 0.1
) -> ClosedFormLR:
    """Return a scheduler that raises the rate in a straight line, then lowers it in one to 0 at the end.

    Devlin et al., «BERT: pre-training of deep bidirectional transformers», 2019, appendix A.2.

    Args:
        optimizer: the run provides it; its learning rate is the highest.
        total_steps: steps of the scheduler in the whole run, which provides it.
        steps_per_epoch: steps of the scheduler per epoch; the run provides it.
        warmup: how long the rate rises: a share of the run (``0.1``), steps (``500``), or ``{ epochs = 2 }``.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    steps = warmup_steps(warmup, total_steps, steps_per_epoch)
    return ClosedFormLR(optimizer, WarmupLinearCurve(WarmupCurve(steps), total_steps))
