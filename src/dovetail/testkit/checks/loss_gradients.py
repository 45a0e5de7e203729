"""Losses: that their gradients exist, arrive where they are claimed to, and are those of the value."""

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
    "A hard choice inside (argmax, round, a comparison, .item(), .detach()) cuts it off, so the model cannot learn "
    "from it. "
    "Weigh the alternatives by softmax probabilities instead of choosing one."
)
#: Where along a path between two sets of logits the loss is looked at.
_POINTS: Final = 48
#: How often the worst interval is halved: what is left of 1/48 after that is rounding.
_HALVINGS: Final = 30
_ROUNDING: Final = 1e-6


@check("loss")
def gradient_reaches_the_logits(subject: Subject) -> None:
    """The gradient with respect to the model's outputs exists, and is not zero on every batch."""
    loss = LossUnderTest.built(subject)
    largest: list[float] = []

    def arrives(case: Case) -> None:
        _, gradient = loss.gradient(case)
        expect(gradient is not None, f"no gradient reaches the model's outputs. {_HARD_CHOICE}")
        assert gradient is not None, "checked"
        largest.append(float(gradient.abs().max()) if gradient.numel() else 0.0)

    for_all(arrives, case=fitting_cases(subject, min_size=2), share=0.2)
    expect(
        max(largest) > 0,
        f"the gradient with respect to the model's outputs is zero on {len(largest)} random batches. {_HARD_CHOICE}",
    )


@check("loss", unless="surrogate_gradient")
def no_hidden_steps(subject: Subject) -> None:
    """Where the loss changes, its gradient says so: no term jumps while the logits move smoothly."""
    loss = LossUnderTest.built(subject, torch.float64)

    def moves_smoothly(case: Case, other: Case) -> None:
        start = case.to(torch.float64)
        fits = other.logits.shape == case.logits.shape
        end = other.logits.double() if fits else -start.logits.flip(0)
        jump = _largest_jump(loss, start, end - start.logits)
        expect(
            jump <= _ROUNDING,
            f"along a straight path between two sets of logits the loss jumps by {jump:.3g} at one point, of which "
            "its gradient "
            f"says nothing. {_HARD_CHOICE} If the gradient is meant to be another function's (a straight-through "
            "estimator), "
            "give it the trait 'surrogate_gradient'.",
        )

    cases = fitting_cases(subject, min_size=2, max_size=4)
    for_all(moves_smoothly, case=cases, other=cases, share=0.05)


def _largest_jump(loss: LossUnderTest, start: Case, way: Tensor) -> float:
    """Return the largest sudden change of the loss along ``start + t · way`` that the gradient does not account for.

    The change over an interval is compared with the integral of the gradient over it. The interval in which they differ
    most is halved again and again: at a kink or a curve the difference vanishes with the interval, at a jump it stays.
    """

    def look(place: float) -> tuple[float, float]:
        total, gradient = loss.gradient(start.with_logits(start.logits + place * way))
        return float(total), 0.0 if gradient is None else float((gradient * way).sum())

    def difference(left: float, right: float, at_left: tuple[float, float], at_right: tuple[float, float]) -> float:
        return abs(at_right[0] - at_left[0] - (right - left) * (at_left[1] + at_right[1]) / 2)

    places = [step / _POINTS for step in range(_POINTS + 1)]
    seen = [look(place) for place in places]
    pieces = list(zip(places, places[1:], seen, seen[1:], strict=False))
    left, right, at_left, at_right = max(pieces, key=lambda piece: difference(*piece))
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        at_middle = look(middle)
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
                "the gradient is not that of the value, by finite differences in fp64: a term is cut off "
                "(.detach(), .item(), "
                "numpy), rounded to fp32, or has a backward of its own that is wrong. If that is meant, give it the "
                "trait "
                f"'surrogate_gradient'.\n{error}"
            )

    for_all(agrees, case=fitting_cases(subject, max_size=2), share=0.05)


@check("loss", needs="signal_gradient")
def gradient_reaches_the_inputs(subject: Subject) -> None:
    """The gradient with respect to the batch's inputs exists and is not zero (claimed: 'signal_gradient')."""

    def watch(case: Case) -> tuple[Case, Tensor]:
        inputs: Any = case.batch.get("inputs")
        if not isinstance(inputs, Tensor):
            raise NotApplicable("its batches have no tensor of inputs")
        signal = inputs.detach().clone().requires_grad_()
        return case.with_batch(inputs=signal), signal

    _arrives(subject, watch, "the batch's inputs", "signal_gradient")


@check("loss", needs="hidden_gradient")
def gradient_reaches_the_hidden_representation(subject: Subject) -> None:
    """The gradient with respect to the hidden representation exists and is not zero (claimed: 'hidden_gradient')."""

    def watch(case: Case) -> tuple[Case, Tensor]:
        if not isinstance(case.outputs.hidden, Tensor):
            raise NotApplicable("its outputs have no hidden representation")
        hidden = case.outputs.hidden.detach().clone().requires_grad_()
        return evolve(case, outputs=evolve(case.outputs, hidden=hidden)), hidden

    _arrives(subject, watch, "the hidden representation", "hidden_gradient")


def _arrives(subject: Subject, watch: Callable[[Case], tuple[Case, Tensor]], what: str, trait: str) -> None:
    """Raise unless a gradient reaches the tensor that ``watch`` puts into each case."""
    loss = LossUnderTest.built(subject)
    largest: list[float] = []

    def arrives(case: Case) -> None:
        watched, tensor = watch(case)
        total = loss(watched).total
        found = torch.autograd.grad(total, tensor, allow_unused=True)[0] if total.requires_grad else None
        expect(found is not None, f"no gradient reaches {what}, though the trait '{trait}' claims so. {_HARD_CHOICE}")
        assert found is not None, "checked"
        largest.append(float(found.abs().max()))

    for_all(arrives, case=fitting_cases(subject, min_size=2), share=0.2)
    expect(
        max(largest) > 0,
        f"the gradient with respect to {what} is always zero, though the trait '{trait}' claims it. {_HARD_CHOICE}",
    )


@check("loss")
def gradient_reaches_its_parameters(subject: Subject) -> None:
    """Every parameter that the loss itself has is trained: a gradient reaches it."""
    loss = LossUnderTest.built(subject)
    own = list(loss.raw.named_parameters()) if isinstance(loss.raw, nn.Module) else []
    trained = {name: parameter for name, parameter in own if parameter.requires_grad}
    if not trained:
        raise NotApplicable("it has no parameters")
    reached: set[str] = set()

    def arrives(case: Case) -> None:
        logits = case.logits.detach().clone().requires_grad_()
        total = loss(case.with_logits(logits)).total
        found: tuple[Tensor | None, ...] = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
        reached.update(name for name, one in zip(trained, found, strict=True) if one is not None and bool(one.any()))

    for_all(arrives, case=fitting_cases(subject, min_size=2), share=0.1)
    missed = sorted(trained.keys() - reached)
    expect(not missed, f"no gradient ever reaches the parameter '{missed[:1]}'. {_HARD_CHOICE}")
