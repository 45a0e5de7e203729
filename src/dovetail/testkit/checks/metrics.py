"""Metrics: their values depend on the samples, and not on how these are divided into batches."""

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


def _values(metric: Any, cases: Iterable[Case]) -> Mapping[str, Any]:
    for case in cases:
        metric.update(case.outputs, case.batch)
    values: Mapping[str, Any] = metric.compute()
    return values


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
    """It accepts the forms of batches that its traits claim, or one of the common forms."""
    evaluation.takes_a_batch(subject)


@check("metric")
def figures_are_plain(subject: Subject) -> None:
    """It returns a dict of numbers or nested lists of numbers."""

    def is_plain(case: Case) -> None:
        values: Any = _values(subject.build(), [case])
        expect(
            isinstance(values, Mapping) and values,
            f"compute() returned {values!r}; it must be a dict of values by name",
        )
        for name, value in values.items():
            expect(isinstance(name, str), f"compute() returned the name {name!r}; names must be strings")
            expect(
                _numbers(value),
                f"the value of '{name}' is a {type(value).__name__}; it must be a float or nested lists of numbers",
            )

    for_all(is_plain, case=fitting_cases(subject), fraction=0.1)


def _numbers(value: Any) -> bool:
    return all(map(_numbers, value)) if isinstance(value, list) else isinstance(value, int | float)


@check("metric")
def batching_does_not_matter(subject: Subject) -> None:
    """The same samples in one batch or in several, in another order, give the same values."""

    def agrees(case: Case, random: st.DataObject) -> None:
        cut = random.draw(st.integers(1, len(case) - 1), label="cut")
        whole = _values(subject.build(), [case])
        parts = _values(subject.build(), [case.take(range(cut, len(case))), case.take(range(cut))])
        expect(
            _close(whole, parts),
            f"{len(case)} samples in one batch give {dict(whole)}, but {dict(parts)} in two batches split after {cut}; "
            "accumulate counts and sums in update(), and divide in compute()",
        )

    for_all(agrees, case=fitting_cases(subject, min_size=2), random=st.data())


@check("metric")
def reset_forgets(subject: Subject) -> None:
    """reset() clears all state, and compute() clears none."""

    def forgets(case: Case, other: Case) -> None:
        fresh = _values(subject.build(), [case])
        used = subject.build()
        _values(used, [other])
        used.reset()
        again = _values(used, [case])
        expect(_close(fresh, again), f"a new metric gives {dict(fresh)}, but {dict(again)} after reset()")
        expect(
            _close(again, used.compute()), "compute() gives another result when called twice; it must not change state"
        )

    cases = fitting_cases(subject)
    for_all(forgets, case=cases, other=cases, fraction=0.2)


@check("metric")
def state_round_trips(subject: Subject) -> None:
    """A new instance that loads its ``state_dict`` between two batches gives the same values."""
    if not hasattr(subject.build(), "state_dict"):
        raise NotApplicable("it has no state_dict, so in an epoch resumed midway it covers only the remaining batches")

    def resumes(case: Case, random: st.DataObject) -> None:
        cut = random.draw(st.integers(1, len(case) - 1), label="cut")
        before, after = case.take(range(cut)), case.take(range(cut, len(case)))
        straight, resumed = subject.build(), subject.build()
        straight.update(before.outputs, before.batch)
        resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
        expected, values = _values(straight, [after]), _values(resumed, [after])
        expect(
            _close(expected, values),
            f"it gives {dict(expected)} without interruption, but {dict(values)} when saved and loaded midway; return "
            "all state from state_dict",
        )

    for_all(resumes, case=fitting_cases(subject, min_size=2), random=st.data(), fraction=0.2)
