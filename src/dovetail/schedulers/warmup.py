"""How long a warm-up is: one type for the three ways to say it."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen

from dovetail.spec.limits import AtLeast, Between


@frozen
class Epochs:
    """A length in epochs: ``{ epochs = 2 }``, or a part of one: ``{ epochs = 0.5 }``."""

    epochs: Annotated[float, AtLeast(0)] = field()

    @epochs.validator
    def _check(self, _attribute: object, value: float) -> None:
        if not value >= 0:
            msg = f"epochs: must be at least 0, got {value:g}"
            raise ValueError(msg)


#: ``0.1`` is a share of the run (0 to 1), ``500`` a number of scheduler steps, ``{ epochs = 2 }`` a number of
#: epochs.
Warmup = Annotated[float, Between(0, 1)] | Annotated[int, AtLeast(0)] | Epochs


def warmup_steps(warmup: Warmup, total_steps: int, steps_per_epoch: int) -> int:
    """Return the length of a warm-up in scheduler steps.

    Args:
        warmup: a share of the run (a float), steps (an integer) or epochs.
        total_steps: steps of the scheduler in the whole run.
        steps_per_epoch: steps of the scheduler per epoch.

    Raises:
        ValueError: it is negative, a share above 1, or longer than the run.
    """
    if isinstance(warmup, Epochs):
        steps, said = round(warmup.epochs * steps_per_epoch), f"{warmup.epochs:g} epochs"
    elif isinstance(warmup, int):
        steps, said = warmup, f"{warmup} steps"
    else:
        if not 0 <= warmup <= 1:
            msg = f"warmup: a fraction must be between 0 and 1, got {warmup:g}; for steps, write an integer"
            raise ValueError(msg)
        steps, said = round(warmup * total_steps), f"{warmup:g} of the run"
    if steps < 0:
        msg = f"warmup: must be at least 0, got {said}"
        raise ValueError(msg)
    if steps > total_steps:
        msg = f"warmup: {said} is longer than the run, which has {total_steps} steps"
        raise ValueError(msg)
    return steps


@frozen
class WarmupCurve:
    """A straight line up to ``base``: ``base · (step + 1) / (steps + 1)``, then ``base``.

    The first update is already made with a rate above 0, and ``base`` is reached at ``step = steps``.
    """

    steps: int

    def __call__(self, step: int, base: float) -> float:
        """Return the rate at ``step``."""
        return base * min(1.0, (step + 1) / (self.steps + 1))
