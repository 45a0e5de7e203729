"""Losses: how the losses of several batches add up."""

from __future__ import annotations

from typing import Final

import torch
from hypothesis import strategies as st

from dovetail.testkit.cases import Case
from dovetail.testkit.evaluation import LossUnderTest, fitting_cases
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import check, expect
from dovetail.testkit.subject import Subject

_TOLERANCE: Final = 1e-9  # everything here is computed in fp64


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= _TOLERANCE * (1 + abs(first) + abs(second))


@check("loss", unless="ordered")
def order_does_not_matter(subject: Subject) -> None:
    """Samples in another order give the same loss."""
    loss = LossUnderTest.built(subject, torch.float64)

    def is_symmetric(case: Case, random: st.DataObject) -> None:
        order = random.draw(st.permutations(range(len(case))), label="order")
        double = case.to(torch.float64)
        before, after = float(loss(double).total), float(loss(double.take(order)).total)
        expect(
            _close(before, after),
            f"the loss is {before!r}, and {after!r} with the samples in the order {list(order)}. "
            "If the order has a meaning, give it the trait 'ordered'.",
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
        pieces = [loss(double.take(range(cut))), loss(double.take(range(cut, len(case))))]
        weights = [float(piece.weight) for piece in pieces]
        expect(
            _close(sum(weights), float(whole.weight)),
            f"the weight of {len(case)} samples is {float(whole.weight):g}, but the weights of the first {cut} and "
            "of the rest "
            f"are {weights[0]:g} and {weights[1]:g}: weight must count the units that total is a mean over.",
        )
        mean = sum(float(piece.total) * weight for piece, weight in zip(pieces, weights, strict=True)) / (
            sum(weights) or 1.0
        )
        expect(
            _close(mean, float(whole.total)),
            f"the loss of {len(case)} samples is {float(whole.total)!r}, but the weighted mean over the first {cut} "
            "and the rest is "
            f"{mean!r}. Accumulating gradients would train on something else: fix the weight, or take the trait "
            "'additive' away.",
        )

    for_all(adds_up, case=fitting_cases(subject, min_size=2), random=st.data())


@check("loss", needs="additive")
def nothing_to_count_counts_nothing(subject: Subject) -> None:
    """Where the weight is 0, because nothing in the batch counts, so is the loss, and its gradient is finite."""
    loss = LossUnderTest.built(subject)

    def counts_nothing(case: Case) -> None:
        mask = case.batch.get("mask")
        if mask is None:
            return
        hidden = case.with_batch(mask=torch.zeros_like(mask))
        weight = float(loss(hidden).weight)
        total, gradient = loss.gradient(hidden)
        expect(
            weight != 0 or (float(total) == 0 and (gradient is None or torch.isfinite(gradient).all())),
            f"a batch in which nothing counts gives a loss of {float(total)}, which spoils every batch it is summed "
            "with; "
            "divide by weight.clamp(min=1).",
        )

    for_all(counts_nothing, case=fitting_cases(subject), share=0.2)
