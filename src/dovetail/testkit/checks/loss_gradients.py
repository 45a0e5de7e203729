"""Losses: their gradients exist, reach what the traits claim, and are the derivatives of the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from attrs import evolve
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError, gradcheck

from dovetail.testkit.cases import Case
from dovetail.testkit.evaluation import LossUnderTest, fitting_cases
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import NotApplicable, check, expect, fail
from dovetail.testkit.subject import Subject

_HARD_CHOICE: Final = (
    "A hard choice in the loss (argmax, round, a comparison, .item(), .detach()) blocks the gradient, so the model "
    "cannot learn from it. Weight the alternatives by their softmax probabilities instead of choosing one."
)
#: The number of intervals along a path between two sets of logits.
_POINTS: Final = 48
#: How often the worst interval is halved: 1/48 / 2^30 is within rounding.
_HALVINGS: Final = 30
_ROUNDING: Final = 1e-6


@check("loss")
def gradient_reaches_the_logits(subject: Subject) -> None:
    """A gradient reaches the model's outputs, and it is not zero on every batch."""
    loss = LossUnderTest.built(subject)
    largest: list[float] = []

    def arrives(case: Case) -> None:
        _, gradient = loss.gradient(case)
        expect(gradient is not None, f"no gradient reaches the model's outputs. {_HARD_CHOICE}")
        assert gradient is not None, "checked"
        largest.append(float(gradient.abs().max()) if gradient.numel() else 0.0)

    for_all(arrives, case=fitting_cases(subject, min_size=2), fraction=0.2)
    expect(
        max(largest) > 0,
        f"the gradient with respect to the model's outputs is zero on {len(largest)} random batches. {_HARD_CHOICE}",
    )


@check("loss", unless="surrogate_gradient")
def no_hidden_steps(subject: Subject) -> None:
    """The gradient accounts for every change of the loss: no term jumps while the logits change smoothly."""
    loss = LossUnderTest.built(subject, torch.float64)

    def moves_smoothly(case: Case, other: Case) -> None:
        start = case.to(torch.float64)
        fits = other.logits.shape == case.logits.shape
        end = other.logits.double() if fits else -start.logits.flip(0)
        jump = _largest_jump(loss, start, end - start.logits)
        expect(
            jump <= _ROUNDING,
            f"along a straight path between two sets of logits the loss jumps by {jump:.3g} at one point, and its "
            f"gradient does not show it. {_HARD_CHOICE} If the gradient of another function is intended (a "
            "straight-through estimator), add the trait 'surrogate_gradient'.",
        )

    cases = fitting_cases(subject, min_size=2, max_size=4)
    for_all(moves_smoothly, case=cases, other=cases, fraction=0.05)


def _largest_jump(loss: LossUnderTest, start: Case, direction: Tensor) -> float:
    """Return the largest jump of the loss along ``start + t · direction``, t from 0 to 1.

    Compare the change over each interval with the integral of the gradient, then halve the interval with the largest
    difference repeatedly: at a kink or a curve the difference vanishes with the interval, at a jump it remains.
    """

    def evaluate(position: float) -> tuple[float, float]:
        total, gradient = loss.gradient(start.with_logits(start.logits + position * direction))
        return float(total), 0.0 if gradient is None else float((gradient * direction).sum())

    def difference(left: float, right: float, at_left: tuple[float, float], at_right: tuple[float, float]) -> float:
        return abs(at_right[0] - at_left[0] - (right - left) * (at_left[1] + at_right[1]) / 2)

    positions = [step / _POINTS for step in range(_POINTS + 1)]
    values = [evaluate(position) for position in positions]
    intervals = list(zip(positions, positions[1:], values, values[1:], strict=False))
    left, right, at_left, at_right = max(intervals, key=lambda interval: difference(*interval))
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        at_middle = evaluate(middle)
        if difference(left, middle, at_left, at_middle) >= difference(middle, right, at_middle, at_right):
            right, at_right = middle, at_middle
        else:
            left, at_left = middle, at_middle
    return difference(left, right, at_left, at_right)


@check("loss", unless="surrogate_gradient")
def gradient_is_that_of_the_value(subject: Subject) -> None:
    """In fp64 the gradient agrees with finite differences of the loss."""
    loss = LossUnderTest.built(subject, torch.float64)

    def agrees(case: Case) -> None:
        double = case.to(torch.float64)

        def value(logits: Tensor) -> Tensor:
            return loss(double.with_logits(logits)).total

        logits = double.logits.detach().clone().requires_grad_()
        try:
            gradcheck(value, logits, eps=1e-6, atol=1e-5, rtol=1e-3)
        except GradcheckError as error:
            fail(
                "the gradient disagrees with finite differences in fp64: a term is cut off from the graph (.detach(), "
                ".item(), numpy), is rounded to fp32, or has a wrong backward. If this is intended, add the trait "
                f"'surrogate_gradient'.\n{error}"
            )

    for_all(agrees, case=fitting_cases(subject, max_size=2), fraction=0.05)


@check("loss", needs="signal_gradient")
def gradient_reaches_the_inputs(subject: Subject) -> None:
    """A gradient that is not always zero reaches the batch's inputs (claimed: 'signal_gradient')."""

    def watch(case: Case) -> tuple[Case, Tensor]:
        inputs: Any = case.batch.get("inputs")
        if not isinstance(inputs, Tensor):
            raise NotApplicable("the inputs of its batches are not a tensor")
        signal = inputs.detach().clone().requires_grad_()
        return case.with_batch(inputs=signal), signal

    _arrives(subject, watch, "the batch's inputs", "signal_gradient")


@check("loss", needs="hidden_gradient")
def gradient_reaches_the_hidden_representation(subject: Subject) -> None:
    """A gradient that is not always zero reaches the hidden representation (claimed: 'hidden_gradient')."""

    def watch(case: Case) -> tuple[Case, Tensor]:
        if not isinstance(case.outputs.hidden, Tensor):
            raise NotApplicable("its outputs have no hidden representation")
        hidden = case.outputs.hidden.detach().clone().requires_grad_()
        return evolve(case, outputs=evolve(case.outputs, hidden=hidden)), hidden

    _arrives(subject, watch, "the hidden representation", "hidden_gradient")


def _arrives(subject: Subject, watch: Callable[[Case], tuple[Case, Tensor]], what: str, trait: str) -> None:
    """Raise unless a gradient reaches the tensor that ``watch`` inserts into each case."""
    loss = LossUnderTest.built(subject)
    largest: list[float] = []

    def arrives(case: Case) -> None:
        watched, tensor = watch(case)
        total = loss(watched).total
        gradient = torch.autograd.grad(total, tensor, allow_unused=True)[0] if total.requires_grad else None
        expect(
            gradient is not None,
            f"no gradient reaches {what}, but the trait '{trait}' claims that it does. {_HARD_CHOICE}",
        )
        assert gradient is not None, "checked"
        largest.append(float(gradient.abs().max()))

    for_all(arrives, case=fitting_cases(subject, min_size=2), fraction=0.2)
    expect(
        max(largest) > 0,
        f"the gradient with respect to {what} is always zero, but the trait '{trait}' claims one. {_HARD_CHOICE}",
    )


@check("loss")
def gradient_reaches_its_parameters(subject: Subject) -> None:
    """A gradient reaches every trainable parameter of the loss."""
    loss = LossUnderTest.built(subject)
    own = list(loss.raw.named_parameters()) if isinstance(loss.raw, nn.Module) else []
    trained = {name: parameter for name, parameter in own if parameter.requires_grad}
    if not trained:
        raise NotApplicable("it has no trainable parameters")
    reached: set[str] = set()

    def arrives(case: Case) -> None:
        logits = case.logits.detach().clone().requires_grad_()
        total = loss(case.with_logits(logits)).total
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
        reached.update(
            name
            for name, gradient in zip(trained, gradients, strict=True)
            if gradient is not None and bool(gradient.any())
        )

    for_all(arrives, case=fitting_cases(subject, min_size=2), fraction=0.1)
    missed = sorted(trained.keys() - reached)
    expect(not missed, f"no gradient reaches the parameters {', '.join(missed)}. {_HARD_CHOICE}")
