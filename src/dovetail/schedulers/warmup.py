"""Schedulers that begin with a linear warm-up, and the ways to give its length."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen
from torch.optim import Optimizer

from dovetail.schedulers.annealing import CosineCurve
from dovetail.schedulers.closed_form import ClosedFormLR, check_below_base, check_limit
from dovetail.spec import AtLeast, Between


@frozen
class Epochs:
    """A length in epochs: ``{ epochs = 2 }``, or a fraction of one: ``{ epochs = 0.5 }``."""

    epochs: Annotated[float, AtLeast(0)] = field()

    @epochs.validator
    def _check(self, _attribute: object, value: float) -> None:
        check_limit("epochs", value, AtLeast(0))


#: ``0.1`` is a fraction of the run (0 to 1), ``500`` a number of scheduler steps, ``{ epochs = 2 }`` a number of
#: epochs.
Warmup = Annotated[float, Between(0, 1)] | Annotated[int, AtLeast(0)] | Epochs


def warmup_steps(warmup: Warmup, total_steps: int, steps_per_epoch: int) -> int:
    """Return the length of a warm-up in scheduler steps.

    Args:
        warmup: a fraction of the run (a float), steps (an integer) or epochs.
        total_steps: scheduler steps in the whole run.
        steps_per_epoch: scheduler steps per epoch.

    Raises:
        ValueError: the warm-up is negative, a fraction above 1, or longer than the run.
    """
    if isinstance(warmup, Epochs):
        steps, shown = round(warmup.epochs * steps_per_epoch), f"{warmup.epochs:g} epochs"
    elif isinstance(warmup, int):
        steps, shown = warmup, f"{warmup} steps"
    else:
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup: a fraction must be between 0 and 1, got {warmup:g}; for steps, write an integer")
        steps, shown = round(warmup * total_steps), f"{warmup:g} of the run"
    if steps < 0:
        raise ValueError(f"warmup: must be at least 0, got {shown}")
    if steps > total_steps:
        raise ValueError(f"warmup: {shown} is longer than the run, which has {total_steps} steps")
    return steps


@frozen
class WarmupCurve:
    """A straight line up to ``base``, ``base · (step + 1) / (steps + 1)``, then ``base``.

    The first update already has a learning rate above 0, and the rate reaches ``base`` at ``step = steps``.
    """

    steps: int

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
        return base * min(1.0, (step + 1) / (self.steps + 1))


def linear_warmup(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, *, warmup: Warmup = 0.1
) -> ClosedFormLR:
    """Return a scheduler that raises the learning rate linearly to the optimizer's, then keeps it constant.

    Args:
        optimizer: the run provides it; its learning rate is the highest.
        total_steps: scheduler steps in the whole run; the run provides them.
        steps_per_epoch: scheduler steps per epoch; the run provides them.
        warmup: length of the warm-up: a fraction of the run (``0.1``), steps (``500``), or ``{ epochs = 2 }``.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    return ClosedFormLR(optimizer, WarmupCurve(warmup_steps(warmup, total_steps, steps_per_epoch)))


@frozen
class WarmupCosineCurve:
    """A warm-up, then a cosine that begins where the warm-up ends."""

    warmup: WarmupCurve
    cosine: CosineCurve

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
        if step < self.warmup.steps:
            return self.warmup(step, base)
        return self.cosine(step - self.warmup.steps, base)


def warmup_cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup: Warmup = 0.1,
    min_lr: Annotated[float, AtLeast(0)] = 1e-7,
) -> ClosedFormLR:
    """Return a scheduler that raises the learning rate linearly, then lowers it along half a cosine until the end.

    Args:
        optimizer: the run provides it; its learning rate is the highest.
        total_steps: scheduler steps in the whole run; the run provides them.
        steps_per_epoch: scheduler steps per epoch; the run provides them.
        warmup: length of the warm-up: a fraction of the run (``0.1``), steps (``500``), or ``{ epochs = 2 }``.
        min_lr: the lowest rate, ≥ 0, reached after the last step.

    Raises:
        ValueError: the warm-up is longer than the run, or ``min_lr`` is negative or above the optimizer's learning
            rate.
    """
    check_below_base("min_lr", min_lr, optimizer)
    steps = warmup_steps(warmup, total_steps, steps_per_epoch)
    curve = WarmupCosineCurve(WarmupCurve(steps), CosineCurve(max(total_steps - steps, 1), min_lr))
    return ClosedFormLR(optimizer, curve)


@frozen
class WarmupLinearCurve:
    """A warm-up, then ``base · (end - step) / (end - warm-up)`` down to 0."""

    warmup: WarmupCurve
    end: int

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
        if step < self.warmup.steps:
            return self.warmup(step, base)
        return base * max(self.end - step, 0) / max(self.end - self.warmup.steps, 1)


def warmup_linear(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, *, warmup: Warmup = 0.1
) -> ClosedFormLR:
    """Return a scheduler that raises the learning rate linearly, then lowers it linearly to 0 at the end of the run.

    Devlin et al., «BERT: pre-training of deep bidirectional transformers», 2019, appendix A.2.

    Args:
        optimizer: the run provides it; its learning rate is the highest.
        total_steps: scheduler steps in the whole run; the run provides them.
        steps_per_epoch: scheduler steps per epoch; the run provides them.
        warmup: length of the warm-up: a fraction of the run (``0.1``), steps (``500``), or ``{ epochs = 2 }``.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    steps = warmup_steps(warmup, total_steps, steps_per_epoch)
    return ClosedFormLR(optimizer, WarmupLinearCurve(WarmupCurve(steps), total_steps))


@frozen
class NoamCurve:
    """``base · d_model^-0.5 · min(n^-0.5, n · warmup_steps^-1.5)``, where ``n`` is the update, counted from 1."""

    d_model: int
    warmup_steps: int

    def __call__(self, step: int, base: float) -> float:
        """Return the learning rate at ``step``."""
        update = step + 1
        return base * float(self.d_model**-0.5 * min(update**-0.5, update * self.warmup_steps**-1.5))


def noam(
    optimizer: Optimizer,
    *,
    d_model: Annotated[int, AtLeast(1)] = 256,
    warmup_steps: Annotated[int, AtLeast(1)] = 4000,
) -> ClosedFormLR:
    """Return the transformer's schedule: a linear warm-up, then decay with the inverse square root of the update.

    Vaswani et al., «Attention is all you need», 2017, equation 3. The paper's formula is the whole learning rate; here
    the optimizer's rate multiplies it, so set ``optimizer.lr = 1.0`` for the paper's schedule.

    Args:
        optimizer: the run provides it.
        d_model: width of the model; the rate is proportional to its inverse square root.
        warmup_steps: updates until the highest rate, ``(d_model · warmup_steps)^-0.5``.

    Raises:
        ValueError: an option is below 1.
    """
    check_limit("d_model", d_model, AtLeast(1))
    check_limit("warmup_steps", warmup_steps, AtLeast(1))
    return ClosedFormLR(optimizer, NoamCurve(d_model, warmup_steps))
