"""Metrics: the figures depend on what was seen, and not on how it was divided into batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from dovetail.testkit import evaluation
from dovetail.testkit.cases import Case
from dovetail.testkit.evaluation import fitting_cases
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import NotApplicable, check, expect
from dovetail.testkit.subject import Subject


def _figures(metric: Any, cases: Iterable[Case]) -> Mapping[str, Any]:
    for case in cases:
        metric.update(case.outputs, case.batch)
    found: Mapping[str, Any] = metric.compute()
    return found


def _close(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_close(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_close, first, second))
    return (
        first == second
        or (math.isnan(first) and math.isnan(second))
        or math.isclose(first, second, rel_tol=1e-5, abs_tol=1e-6)
    )


@check("metric")
def takes_a_batch(subject: Subject) -> None:
    """It takes the batches that its traits claim, or one of the common forms."""
    evaluation.takes_a_batch(subject)


@check("metric")
def figures_are_plain(subject: Subject) -> None:
    """It gives figures by name: numbers, or nested lists of numbers."""

    def is_plain(case: Case) -> None:
        found: Any = _figures(subject.build(), [case])
        expect(
            isinstance(found, Mapping) and found, f"compute() returned {found!r}; it must be a dict of figures by name"
        )
        for name, value in found.items():
            expect(isinstance(name, str), f"a figure is named {name!r}; names are strings")
            expect(
                _numbers(value),
                f"the figure '{name}' is {type(value).__name__}; it must be a float or nested lists of numbers",
            )

    for_all(is_plain, case=fitting_cases(subject), share=0.1)


def _numbers(value: Any) -> bool:
    return all(map(_numbers, value)) if isinstance(value, list) else isinstance(value, int | float)


@check("metric")
def batching_does_not_matter(subject: Subject) -> None:
    """One big batch, or the same samples in several, in another order: the figures are the same."""

    def agrees(case: Case, random: st.DataObject) -> None:
        cut = random.draw(st.integers(1, len(case) - 1), label="cut")
        whole = _figures(subject.build(), [case])
        pieces = _figures(subject.build(), [case.take(range(cut, len(case))), case.take(range(cut))])
        expect(
            _close(whole, pieces),
            f"{len(case)} samples in one batch give {dict(whole)}, cut in two after {cut} they give {dict(pieces)}: "
            "gather counts and sums, and divide in compute()",
        )

    for_all(agrees, case=fitting_cases(subject, min_size=2), random=st.data())


@check("metric")
def reset_forgets(subject: Subject) -> None:
    """After reset() it is as good as new, and compute() does not forget."""

    def forgets(case: Case, other: Case) -> None:
        fresh = _figures(subject.build(), [case])
        used = subject.build()
        _figures(used, [other])
        used.reset()
        again = _figures(used, [case])
        expect(_close(fresh, again), f"a fresh metric gives {dict(fresh)}, one that was reset {dict(again)}")
        expect(_close(again, used.compute()), "computing twice gives two answers")

    cases = fitting_cases(subject)
    for_all(forgets, case=cases, other=cases, share=0.2)


@check("metric")
def state_round_trips(subject: Subject) -> None:
    """Saved between two batches and loaded into a fresh one, it goes on to the same figures."""
    if not hasattr(subject.build(), "state_dict"):
        raise NotApplicable("it keeps no state that can be saved, so an epoch that is resumed midway counts from there")

    def resumes(case: Case, random: st.DataObject) -> None:
        cut = random.draw(st.integers(1, len(case) - 1), label="cut")
        before, after = case.take(range(cut)), case.take(range(cut, len(case)))
        straight, resumed = subject.build(), subject.build()
        straight.update(before.outputs, before.batch)
        resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
        expected, found = _figures(straight, [after]), _figures(resumed, [after])
        expect(
            _close(expected, found),
            f"without an interruption it gives {dict(expected)}, saved and loaded midway {dict(found)}",
        )

    for_all(resumes, case=fitting_cases(subject, min_size=2), random=st.data(), share=0.2)
