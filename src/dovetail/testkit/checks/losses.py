"""Losses: what they answer, and that the answer depends on nothing but the question."""

from __future__ import annotations

import copy
import random
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from dovetail.losses.result import LossResult
from dovetail.testkit import evaluation
from dovetail.testkit.cases import Case
from dovetail.testkit.evaluation import LossUnderTest, fitting_cases
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import NotApplicable, check, expect
from dovetail.testkit.subject import Subject

#: The largest logit that a healthy model gives in fp32; exp(80) is still a number.
_LARGEST_LOGIT: Final = 80.0
_UNREPEATABLE: Final = (
    "It draws random numbers (draw them with dovetail.random, addressed by seed, epoch and sample), or it remembers "
    "earlier batches (if it adapts on purpose, give it the trait 'stateful'). As it is, a run could not be repeated."
)


@check("loss")
def takes_a_batch(subject: Subject) -> None:
    """It takes the batches that its traits claim, or one of the common forms."""
    evaluation.takes_a_batch(subject)


@check("loss")
def returns_a_scalar_and_its_weight(subject: Subject) -> None:
    """``total`` is one floating number per batch, and ``weight`` says how many units it is a mean over."""
    loss = LossUnderTest.built(subject)

    def is_well_formed(case: Case) -> None:
        result: Any = loss(case)
        expect(isinstance(result, LossResult), f"it returned {type(result).__name__}, not a LossResult")
        expect(isinstance(result.total, Tensor), f"total is {type(result.total).__name__}, not a tensor")
        expect(
            result.total.ndim == 0 and result.total.is_floating_point(),
            f"total is a {result.total.dtype} tensor of shape {list(result.total.shape)}; it must be one floating "
            "number",
        )
        weight = result.weight
        expect(isinstance(weight, Tensor | float | int), f"weight is {type(weight).__name__}, not a number")
        expect(
            not isinstance(weight, Tensor) or (weight.ndim == 0 and not weight.requires_grad),
            "weight must be one number outside the graph; use .detach()",
        )
        expect(
            0 <= float(weight) < float("inf"),
            f"weight is {float(weight)}; it counts units, so it is finite and not negative",
        )

    for_all(is_well_formed, case=fitting_cases(subject), share=0.1)


@check("loss")
def parts_are_named_scalars(subject: Subject) -> None:
    """Every part is one finite number under a name of its own, so that it can be logged."""
    loss = LossUnderTest.built(subject)

    def has_plain_parts(case: Case) -> None:
        parts: dict[Any, Any] = {**loss(case).parts}
        for name, part in parts.items():
            expect(isinstance(name, str) and name, f"a part is named {name!r}; names are strings")
            expect(
                isinstance(part, Tensor),
                f"part '{name}' is {type(part).__name__}, not a tensor; .item() waits for the device",
            )
            expect(part.ndim == 0, f"part '{name}' has shape {list(part.shape)}; reduce it to one number")
            expect(torch.isfinite(part.detach()), f"part '{name}' is {float(part.detach())}")

    for_all(has_plain_parts, case=fitting_cases(subject), share=0.1)


@check("loss")
def finite(subject: Subject) -> None:
    """Loss and gradient are finite, also for logits as large as ±80 and as small as 0."""
    loss = LossUnderTest.built(subject)

    def is_finite(case: Case, factor: float) -> None:
        logits = (case.logits * factor).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
        total, gradient = loss.gradient(case.with_logits(logits))
        scale = f"for logits up to {float(logits.abs().max()):g}"
        advice = "; use log_softmax, logsigmoid or log1p instead of the log of a rounded probability"
        expect(torch.isfinite(total), f"the loss is {float(total)} {scale}{advice}")
        expect(
            gradient is None or torch.isfinite(gradient).all(),
            f"the gradient has values that are not finite {scale}{advice}",
        )

    for_all(is_finite, case=fitting_cases(subject), factor=st.sampled_from([1.0, 0.0, 30.0, 1000.0]))


@check("loss")
def leaves_its_inputs_alone(subject: Subject) -> None:
    """Neither the model's outputs nor the batch are changed."""
    loss = LossUnderTest.built(subject)

    def changes_nothing(case: Case) -> None:
        before = copy.deepcopy((case.clone().logits, case.batch))
        loss(case)
        expect(_equal(before, (case.logits, case.batch)), "the loss changed its outputs or its batch in place")

    for_all(changes_nothing, case=fitting_cases(subject), share=0.1)


@check("loss", unless="stateful")
def deterministic(subject: Subject) -> None:
    """The same batch gives the same bits: again, after other batches, whatever the random generators did."""
    loss = LossUnderTest.built(subject)

    def repeats_itself(case: Case, other: Case, seed: int) -> None:
        first = loss.gradient(case)
        expect(_same(first, loss.gradient(case)), f"the loss of {case} differs when called again. {_UNREPEATABLE}")
        loss.gradient(other)
        expect(
            _same(first, loss.gradient(case)),
            f"the loss of {case} differs after a call with another batch. {_UNREPEATABLE}",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (the global generator is what a loss might wrongly use)
            expect(
                _same(first, loss.gradient(case)),
                f"the loss of {case} differs after the random generators moved. {_UNREPEATABLE}",
            )

    for_all(repeats_itself, case=fitting_cases(subject), other=fitting_cases(subject), seed=st.integers(1, 1000))


@check("loss")
def state_round_trips(subject: Subject) -> None:
    """What ``state_dict`` gives, loaded into a fresh one, makes it give the same loss."""
    if not hasattr(subject.build(), "state_dict"):
        raise NotApplicable("it keeps no state")

    def comes_back(case: Case, other: Case) -> None:
        used, fresh = LossUnderTest.built(subject), LossUnderTest.built(subject)
        used.gradient(other)
        fresh.raw.load_state_dict(copy.deepcopy(used.raw.state_dict()))
        expect(
            _same(used.gradient(case), fresh.gradient(case)),
            "after loading its own state into a fresh one, the loss differs: something that changes is not in its "
            "state_dict. "
            "Keep tensors as buffers, anything else in get_extra_state.",
        )

    for_all(comes_back, case=fitting_cases(subject), other=fitting_cases(subject), share=0.1)


@check("loss")
def agrees_across_dtypes(subject: Subject) -> None:
    """fp32 and fp64 give the same loss, up to fp32's rounding."""
    single, double = LossUnderTest.built(subject), LossUnderTest.built(subject, torch.float64)

    def agrees(case: Case) -> None:
        low, high = float(single(case).total), float(double(case.to(torch.float64)).total)
        expect(
            abs(low - high) <= 1e-5 + 1e-4 * abs(high),
            f"the loss is {low!r} in fp32 and {high!r} in fp64: something inside cancels or is computed in another "
            "dtype",
        )

    for_all(agrees, case=fitting_cases(subject), share=0.2)


@check("loss")
def agrees_across_devices(subject: Subject) -> None:
    """CPU and GPU give the same loss, up to fp32's rounding."""
    if not torch.cuda.is_available():
        raise NotApplicable("there is no GPU here")
    here, there = LossUnderTest.built(subject), LossUnderTest.built(subject)
    if isinstance(there.raw, torch.nn.Module):
        there.raw.to("cuda")

    def agrees(case: Case) -> None:
        low, high = float(here(case).total), float(there(case.to("cuda")).total)
        expect(abs(low - high) <= 1e-5 + 1e-4 * abs(low), f"the loss is {low!r} on the CPU and {high!r} on the GPU")

    for_all(agrees, case=fitting_cases(subject), share=0.1)


def _same(first: tuple[Tensor, Tensor | None], second: tuple[Tensor, Tensor | None]) -> bool:
    return _equal(first, second)


def _equal(first: object, second: object) -> bool:
    """Compare nested values bit by bit; nan equals nan."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(torch.equal(first.nan_to_num(), second.nan_to_num()))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)
