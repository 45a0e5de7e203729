"""The transformer's own schedule: Vaswani et al., «Attention is all you need», 2017, equation 3."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen
from torch.optim import Optimizer

from dovetail.schedulers.closed_form import ClosedFormLR
from dovetail.spec.limits import AtLeast


@frozen
class NoamCurve:
    """``base · d_model^-0.5 · min(n^-0.5, n · warmup_steps^-1.5)``, ``n`` being the number of the update, from 1."""

    d_model: int
    warmup_steps: int

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        number = step + 1
        return base * float(self.d_model**-0.5 * min(number**-0.5, number * self.warmup_steps**-1.5))


def noam(
    optimizer: Optimizer,
    *,
    d_model: Annotated[int, AtLeast(1)] = 256,
    warmup_steps: Annotated[int, AtLeast(1)] = 4000,
) -> ClosedFormLR:
    """Return a scheduler that raises the rate in a straight line, then lowers it as the inverse square root of time.

    The paper's formula is the whole rate; the optimizer's is a factor to it, so that ``optimizer.lr = 1.0`` is the
    paper's.

    Args:
        optimizer: the run provides it.
        d_model: width of the model; the rate is in proportion to its inverse square root.
        warmup_steps: updates until the highest rate, ``(d_model · warmup_steps)^-0.5``.

    Raises:
        ValueError: an option is below 1.
    """
    for name, value in (("d_model", d_model), ("warmup_steps", warmup_steps)):
        if value < 1:
            msg = f"{name}: must be at least 1, got {value}"
            raise ValueError(msg)
    return ClosedFormLR(optimizer, NoamCurve(d_model, warmup_steps))
