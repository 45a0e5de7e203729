"""Losses: how they combine samples and batches, and which shapes they reject."""

from __future__ import annotations

import math
from typing import Final

import torch
from hypothesis import strategies as st
from torch import Tensor

from dovetail.testkit.cases import Case
from dovetail.testkit.evaluation import LossUnderTest, fitting_cases
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import NotApplicable, check, expect, fail
from dovetail.testkit.subject import Subject

_TOLERANCE: Final = 1e-9  # of values computed in fp64
#: The errors that reject a batch.
_REJECTIONS: Final = (TypeError, ValueError)


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= _TOLERANCE * (1 + abs(first) + abs(second))


@check("loss", unless="ordered")
def order_does_not_matter(subject: Subject) -> None:
    """The loss does not depend on the order of the samples."""
    loss = LossUnderTest.built(subject, torch.float64)

    def is_symmetric(case: Case, random: st.DataObject) -> None:
        order = random.draw(st.permutations(range(len(case))), label="order")
        double = case.to(torch.float64)
        before, after = float(loss(double).total), float(loss(double.take(order)).total)
        expect(
            _close(before, after),
            f"the loss is {before!r}, and {after!r} with the samples in the order {list(order)}. "
            "If it depends on the order by design, add the trait 'ordered'.",
        )

    for_all(is_symmetric, case=fitting_cases(subject, min_size=2), random=st.data())


@check("loss", needs="additive")
def parts_of_a_batch_add_up(subject: Subject) -> None:
    """The loss of a batch is the weighted mean of the losses of its parts (claimed: 'additive')."""
    loss = LossUnderTest.built(subject, torch.float64)

    def adds_up(case: Case, random: st.DataObject) -> None:
        cut = random.draw(st.integers(1, len(case) - 1), label="cut")
        double = case.to(torch.float64)
        whole = loss(double)
        parts = [loss(double.take(range(cut))), loss(double.take(range(cut, len(case))))]
        weights = [float(part.weight) for part in parts]
        expect(
            _close(sum(weights), float(whole.weight)),
            f"the weight of {len(case)} samples is {float(whole.weight):g}, but the weights of the first {cut} and of "
            f"the rest are {weights[0]:g} and {weights[1]:g}: weight must be the number of units that total is a mean "
            "over.",
        )
        weighted = sum(float(part.total) * weight for part, weight in zip(parts, weights, strict=True))
        mean = weighted / (sum(weights) or 1.0)
        expect(
            _close(mean, float(whole.total)),
            f"the loss of {len(case)} samples is {float(whole.total)!r}, but the weighted mean of the losses of the "
            f"first {cut} and of the rest is {mean!r}, so gradient accumulation would change the result. Fix the "
            "weight, or remove the trait 'additive'.",
        )

    for_all(adds_up, case=fitting_cases(subject, min_size=2), random=st.data())


@check("loss", needs="additive")
def nothing_to_count_counts_nothing(subject: Subject) -> None:
    """If a mask excludes everything and the weight is 0, the loss is 0 and its gradient finite."""
    loss = LossUnderTest.built(subject)

    def counts_nothing(case: Case) -> None:
        mask = case.batch.get("mask")
        if mask is None:
            return
        masked = case.with_batch(mask=torch.zeros_like(mask))
        weight = float(loss(masked).weight)
        total, gradient = loss.gradient(masked)
        expect(
            weight != 0 or (float(total) == 0 and (gradient is None or torch.isfinite(gradient).all())),
            f"a batch whose mask excludes everything gives a loss of {float(total)}, or a gradient that is not "
            "finite, and spoils every sum with other batches; divide by weight.clamp(min=1).",
        )

    for_all(counts_nothing, case=fitting_cases(subject), fraction=0.2)


def _expect_error(loss: LossUnderTest, case: Case, what: str) -> None:
    """Raise unless the loss rejects ``case`` with a ValueError or TypeError that has a message."""
    shapes = f"outputs {list(case.logits.shape)} with targets {list(case.batch['targets'].shape)} ({what})"
    advice = "Compare the shapes first, and raise ValueError with both of them."
    try:
        result = loss(case)
    except _REJECTIONS as error:
        expect(str(error).strip(), f"it rejects {shapes} without a message. {advice}")
    except Exception as error:  # noqa: BLE001 (anything else is the finding)
        fail(f"it raises {type(error).__name__} for {shapes}: {error}. {advice}")
    else:
        fail(f"it accepts {shapes} and returns {float(result.total):g}, because it broadcasts them. {advice}")


def _targets(case: Case) -> Tensor:
    targets = case.batch.get("targets")
    if not isinstance(targets, Tensor):
        raise NotApplicable("the targets of its batches are not a tensor")
    return targets


@check("loss")
def too_few_targets_are_refused(subject: Subject) -> None:
    """A single target for several samples, or one target too few, is an error."""
    loss = LossUnderTest.built(subject)

    def raises(case: Case) -> None:
        targets = _targets(case)
        _expect_error(loss, case.with_batch(targets=targets[:1]), "a single target")
        _expect_error(loss, case.with_batch(targets=targets[:-1]), "one target too few")

    for_all(raises, case=fitting_cases(subject, min_size=2), fraction=0.1)


@check("loss")
def wrong_rank_is_refused(subject: Subject) -> None:
    """Targets with an extra dimension, such as a column of a table, are an error."""
    loss = LossUnderTest.built(subject)

    def raises(case: Case) -> None:
        targets = _targets(case)
        _expect_error(loss, case.with_batch(targets=targets.unsqueeze(1)), "an extra dimension")

    for_all(raises, case=fitting_cases(subject, min_size=2), fraction=0.1)


@check("loss")
def outputs_without_samples_are_refused(subject: Subject) -> None:
    """Outputs without the sample dimension are an error."""
    loss = LossUnderTest.built(subject)

    def raises(case: Case) -> None:
        _targets(case)
        if case.logits.ndim > 1:
            _expect_error(loss, case.with_logits(case.logits[0]), "no sample dimension")

    for_all(raises, case=fitting_cases(subject, min_size=2), fraction=0.1)


@check("loss")
def empty_batch_is_refused_or_weighs_nothing(subject: Subject) -> None:
    """A batch without samples is an error, or has a finite loss with weight 0."""
    loss = LossUnderTest.built(subject)

    def is_sane(case: Case) -> None:
        try:
            result = loss(case.take([]))
        except _REJECTIONS as error:
            expect(str(error).strip(), "it rejects an empty batch without a message; say that the batch has no samples")
        except Exception as error:  # noqa: BLE001 (anything else is the finding)
            fail(
                f"it raises {type(error).__name__} for an empty batch: {error}. Raise ValueError, or return a total "
                "and a weight of 0."
            )
        else:
            total, weight = float(result.total), float(result.weight)
            expect(
                weight == 0 and math.isfinite(total),
                f"an empty batch gives a loss of {total} with weight {weight:g}, which spoils sums with other batches. "
                "Raise ValueError, or return a total and a weight of 0.",
            )

    for_all(is_sane, case=fitting_cases(subject), fraction=0.05)
