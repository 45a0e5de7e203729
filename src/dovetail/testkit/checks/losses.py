"""Losses: their results, and that a result depends only on the batch."""

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

#: The largest logit to expect of a model in fp32; exp(80) does not overflow.
_LARGEST_LOGIT: Final = 80.0
_UNREPEATABLE: Final = (
    "A run could not be repeated: the loss draws random numbers (draw them with dovetail.random, addressed by seed, "
    "epoch and sample) or depends on earlier batches (if this is intended, add the trait 'stateful')."
)


@check("loss")
def takes_a_batch(subject: Subject) -> None:
    """It accepts the forms of batches that its traits claim, or one of the common forms."""
    evaluation.takes_a_batch(subject)


@check("loss")
def returns_a_scalar_and_its_weight(subject: Subject) -> None:
    """``total`` is a floating-point scalar, and ``weight`` the number of units that it is a mean over."""
    loss = LossUnderTest.built(subject)

    def is_well_formed(case: Case) -> None:
        result: Any = loss(case)
        expect(isinstance(result, LossResult), f"it returned {type(result).__name__}, not a LossResult")
        expect(isinstance(result.total, Tensor), f"total is {type(result.total).__name__}, not a tensor")
        expect(
            result.total.ndim == 0 and result.total.is_floating_point(),
            f"total is a {result.total.dtype} tensor of shape {list(result.total.shape)}; it must be a floating-point "
            "scalar",
        )
        weight = result.weight
        expect(isinstance(weight, Tensor | float | int), f"weight is {type(weight).__name__}, not a number")
        expect(
            not isinstance(weight, Tensor) or (weight.ndim == 0 and not weight.requires_grad),
            "weight must be a scalar without a gradient; use .detach()",
        )
        expect(
            0 <= float(weight) < float("inf"),
            f"weight is {float(weight)}; it counts units, so it must be finite and not negative",
        )

    for_all(is_well_formed, case=fitting_cases(subject), fraction=0.1)


@check("loss")
def parts_are_named_scalars(subject: Subject) -> None:
    """Every part is a finite scalar with a name, so that it can be logged."""
    loss = LossUnderTest.built(subject)

    def has_plain_parts(case: Case) -> None:
        parts: dict[Any, Any] = {**loss(case).parts}
        for name, part in parts.items():
            expect(isinstance(name, str) and name, f"a part has the name {name!r}; names must be non-empty strings")
            expect(
                isinstance(part, Tensor),
                f"part '{name}' is a {type(part).__name__}, not a tensor; do not call .item(), which waits for the "
                "device",
            )
            expect(part.ndim == 0, f"part '{name}' has shape {list(part.shape)}; reduce it to a scalar")
            expect(torch.isfinite(part.detach()), f"part '{name}' is {float(part.detach())}; it must be finite")

    for_all(has_plain_parts, case=fitting_cases(subject), fraction=0.1)


@check("loss")
def finite(subject: Subject) -> None:
    """Loss and gradient are finite for logits from 0 to ±80."""
    loss = LossUnderTest.built(subject)

    def is_finite(case: Case, factor: float) -> None:
        logits = (case.logits * factor).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
        total, gradient = loss.gradient(case.with_logits(logits))
        scale = f"for logits up to {float(logits.abs().max()):g}"
        advice = "; use log_softmax, logsigmoid or log1p instead of the logarithm of a rounded probability"
        expect(torch.isfinite(total), f"the loss is {float(total)} {scale}{advice}")
        expect(
            gradient is None or torch.isfinite(gradient).all(),
            f"the gradient is not finite {scale}{advice}",
        )

    for_all(is_finite, case=fitting_cases(subject), factor=st.sampled_from([1.0, 0.0, 30.0, 1000.0]))


@check("loss")
def leaves_its_inputs_alone(subject: Subject) -> None:
    """It changes neither the model's outputs nor the batch."""
    loss = LossUnderTest.built(subject)

    def changes_nothing(case: Case) -> None:
        before = copy.deepcopy((case.clone().logits, case.batch))
        loss(case)
        expect(
            _equal(before, (case.logits, case.batch)),
            "the loss changed the outputs or the batch in place; clone them first",
        )

    for_all(changes_nothing, case=fitting_cases(subject), fraction=0.1)


@check("loss", unless="stateful")
def deterministic(subject: Subject) -> None:
    """The same batch gives the same result bit for bit, after other batches and with any random state."""
    loss = LossUnderTest.built(subject)

    def repeats_itself(case: Case, other: Case, seed: int) -> None:
        first = loss.gradient(case)
        expect(_equal(first, loss.gradient(case)), f"the loss of {case} differs in a second call. {_UNREPEATABLE}")
        loss.gradient(other)
        expect(
            _equal(first, loss.gradient(case)),
            f"the loss of {case} differs after a call with another batch. {_UNREPEATABLE}",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (a loss might wrongly use the global generator)
            expect(
                _equal(first, loss.gradient(case)),
                f"the loss of {case} differs with another state of the random generators. {_UNREPEATABLE}",
            )

    for_all(repeats_itself, case=fitting_cases(subject), other=fitting_cases(subject), seed=st.integers(1, 1000))


@check("loss")
def state_round_trips(subject: Subject) -> None:
    """A new instance that loads its ``state_dict`` gives the same loss."""
    if not hasattr(subject.build(), "state_dict"):
        raise NotApplicable("it has no state_dict")

    def comes_back(case: Case, other: Case) -> None:
        used, fresh = LossUnderTest.built(subject), LossUnderTest.built(subject)
        used.gradient(other)
        fresh.raw.load_state_dict(copy.deepcopy(used.raw.state_dict()))
        expect(
            _equal(used.gradient(case), fresh.gradient(case)),
            "a new instance that loads its state_dict gives another loss: some of its state is not in state_dict. "
            "Register tensors as buffers, and return anything else from get_extra_state.",
        )

    for_all(comes_back, case=fitting_cases(subject), other=fitting_cases(subject), fraction=0.1)


@check("loss")
def agrees_across_dtypes(subject: Subject) -> None:
    """fp32 and fp64 give the same loss, up to fp32 rounding."""
    single, double = LossUnderTest.built(subject), LossUnderTest.built(subject, torch.float64)

    def agrees(case: Case) -> None:
        low, high = float(single(case).total), float(double(case.to(torch.float64)).total)
        expect(
            abs(low - high) <= 1e-5 + 1e-4 * abs(high),
            f"the loss is {low!r} in fp32 and {high!r} in fp64: it loses digits by cancellation, or computes in "
            "another dtype",
        )

    for_all(agrees, case=fitting_cases(subject), fraction=0.2)


@check("loss")
def agrees_across_devices(subject: Subject) -> None:
    """CPU and GPU give the same loss, up to fp32 rounding."""
    if not torch.cuda.is_available():
        raise NotApplicable("this machine has no GPU")
    here, there = LossUnderTest.built(subject), LossUnderTest.built(subject)
    if isinstance(there.raw, torch.nn.Module):
        there.raw.to("cuda")

    def agrees(case: Case) -> None:
        low, high = float(here(case).total), float(there(case.to("cuda")).total)
        expect(abs(low - high) <= 1e-5 + 1e-4 * abs(low), f"the loss is {low!r} on the CPU and {high!r} on the GPU")

    for_all(agrees, case=fitting_cases(subject), fraction=0.1)


def _equal(first: object, second: object) -> bool:
    """Return whether nested values are equal bit for bit; nan equals nan."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(torch.equal(first.nan_to_num(), second.nan_to_num()))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)
