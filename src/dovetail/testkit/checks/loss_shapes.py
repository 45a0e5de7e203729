"""Losses: batches of hostile shapes are refused, and never broadcast."""

from __future__ import annotations

import math
from typing import Final

from torch import Tensor

from dovetail.testkit.cases import Case
from dovetail.testkit.evaluation import LossUnderTest, fitting_cases
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import NotApplicable, check, expect, fail
from dovetail.testkit.subject import Subject

_CLEAR: Final = (TypeError, ValueError)


def _refused(loss: LossUnderTest, case: Case, what: str) -> None:
    """Raise unless the loss refuses ``case`` with a ValueError or TypeError that says something."""
    shapes = f"outputs {list(case.logits.shape)} with targets {list(case.batch['targets'].shape)} ({what})"
    advice = "Compare the shapes first, and raise ValueError with both of them."
    try:
        found = loss(case)
    except _CLEAR as error:
        expect(str(error).strip(), f"it refuses {shapes} without a word. {advice}")
    except Exception as error:  # noqa: BLE001 (anything else is the finding)
        fail(f"{shapes} raise {type(error).__name__}: {error}. {advice}")
    else:
        fail(
            f"{shapes} are taken without a word and give a loss of {float(found.total):g}: they were broadcast. "
            f"{advice}"
        )


def _targets(case: Case) -> Tensor:
    targets = case.batch.get("targets")
    if not isinstance(targets, Tensor):
        raise NotApplicable("its batches have no tensor of targets")
    return targets


@check("loss")
def too_few_targets_are_refused(subject: Subject) -> None:
    """One target for several samples, or one too few, is an error."""
    loss = LossUnderTest.built(subject)

    def refuses(case: Case) -> None:
        targets = _targets(case)
        _refused(loss, case.with_batch(targets=targets[:1]), "one target for all")
        _refused(loss, case.with_batch(targets=targets[:-1]), "one target too few")

    for_all(refuses, case=fitting_cases(subject, min_size=2), share=0.1)


@check("loss")
def wrong_rank_is_refused(subject: Subject) -> None:
    """Targets with a dimension too many, as from a column of a table, are an error."""
    loss = LossUnderTest.built(subject)

    def refuses(case: Case) -> None:
        targets = _targets(case)
        _refused(loss, case.with_batch(targets=targets.unsqueeze(1)), "a dimension too many")

    for_all(refuses, case=fitting_cases(subject, min_size=2), share=0.1)


@check("loss")
def outputs_without_samples_are_refused(subject: Subject) -> None:
    """Outputs that lost a dimension are an error."""
    loss = LossUnderTest.built(subject)

    def refuses(case: Case) -> None:
        _targets(case)
        if case.logits.ndim > 1:
            _refused(loss, case.with_logits(case.logits[0]), "the outputs of one sample")

    for_all(refuses, case=fitting_cases(subject, min_size=2), share=0.1)


@check("loss")
def empty_batch_is_refused_or_weighs_nothing(subject: Subject) -> None:
    """A batch without samples is an error, or a loss of 0 with the weight 0; never nan."""
    loss = LossUnderTest.built(subject)

    def is_sane(case: Case) -> None:
        try:
            found = loss(case.take([]))
        except _CLEAR as error:
            expect(str(error).strip(), "it refuses an empty batch without a word")
        except Exception as error:  # noqa: BLE001 (anything else is the finding)
            fail(
                f"an empty batch raises {type(error).__name__}: {error}. Raise ValueError, or return a total and a "
                "weight of 0."
            )
        else:
            total, weight = float(found.total), float(found.weight)
            expect(
                weight == 0 and math.isfinite(total),
                f"an empty batch gives a loss of {total} with the weight {weight:g}, which spoils every sum it enters. "
                "Raise ValueError, or return a total and a weight of 0.",
            )

    for_all(is_sane, case=fitting_cases(subject), share=0.05)
