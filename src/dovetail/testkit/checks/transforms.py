"""Transforms of samples: they keep the form of a sample and draw from the generators that the loader seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import CheckFailed, NotApplicable, check, expect
from dovetail.testkit.samples import FORMS, SHAPES, copied, same
from dovetail.testkit.subject import Subject


def _problem(subject: Subject, form: str, shape: tuple[int, ...]) -> str | None:
    """Return the error that a sample of this form raises, or None if the transform accepts it."""
    transform = _built(subject)
    try:
        transform(FORMS[form](shape, 0))
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # noqa: BLE001 (any exception means that the form does not fit)
        return f"{type(error).__name__}: {error}"
    return None


def _built(subject: Subject) -> Callable[[Any], Any]:
    """Build the transform, and fit it to a few samples if it has the trait 'fitted'."""
    transform: Any = subject.build()
    if "fitted" in subject.traits:
        transform.fit([FORMS["(input, class)"](SHAPES[0], seed) for seed in range(8)])
    built: Callable[[Any], Any] = transform
    return built


def _samples(subject: Subject) -> st.SearchStrategy[Any]:
    if subject.batches is not None:
        return subject.batches
    shapes = SHAPES[:1] if "fitted" in subject.traits else SHAPES
    fitting = [(FORMS[form], shape) for form in FORMS for shape in shapes if _problem(subject, form, shape) is None]
    if not fitting:
        raise NotApplicable("it accepts none of the kit's samples; see transform.takes_samples")
    return st.builds(lambda chosen, seed: chosen[0](chosen[1], seed), st.sampled_from(fitting), st.integers(0, 1000))


@check("transform", unless="batched")
def takes_samples(subject: Subject) -> None:
    """It accepts a sample of one of the common forms, or the author's samples."""
    if subject.batches is not None:
        return
    problems = {form: _problem(subject, form, SHAPES[0]) for form in FORMS}
    errors = "\n".join(f"  {form}: {problem}" for form, problem in problems.items())
    expect(
        None in problems.values(),
        f"it accepts none of the kit's samples:\n{errors}\nPass conformance() a strategy of samples that fit, "
        "batches=.",
    )


@check("transform", unless="batched")
def form_is_kept(subject: Subject) -> None:
    """A pair stays a pair, and a dict keeps its keys."""
    transform = _built(subject)

    def keeps_form(sample: Any) -> None:
        result = transform(sample)
        if isinstance(sample, Mapping):
            kept = isinstance(result, Mapping) and set(sample) <= set(result)
            became = sorted(result) if isinstance(result, Mapping) else type(result).__name__
            expect(kept, f"it turned a dict with {sorted(sample)} into {became}")
        elif isinstance(sample, tuple):
            size = len(result) if isinstance(result, tuple | list) else 0
            expect(
                size == len(sample),
                f"it turned a sample of {len(sample)} values into a {type(result).__name__} of {size}",
            )

    for_all(keeps_form, sample=_samples(subject), fraction=0.2)


@check("transform", unless="batched")
def sample_is_left_alone(subject: Subject) -> None:
    """The input sample is unchanged, because a dataset may return its own memory."""
    transform = _built(subject)

    def changes_nothing(sample: Any) -> None:
        before = copied(sample)
        transform(sample)
        expect(same(before, sample), "it changed its sample in place, which changes the dataset; clone first")

    for_all(changes_nothing, sample=_samples(subject), fraction=0.2)


@check("transform", unless="batched")
def seeds_decide(subject: Subject) -> None:
    """With the same seeds of the global generators, a sample gives the same result after any other sample."""
    transform = _built(subject)

    def repeats_itself(sample: Any, other: Any, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            first = _seeded(transform, sample, seed)
            _seeded(transform, other, seed + 1)
            expect(
                same(first, _seeded(transform, sample, seed)),
                "the same sample gave another result with the same seeds of torch, NumPy and random: it draws from a "
                "generator of its own or keeps state, so a resumed run would train on other data; draw from the global "
                "generators, and keep no state",
            )

    samples = _samples(subject)
    for_all(repeats_itself, sample=samples, other=samples, seed=st.integers(0, 1000), fraction=0.2)


@check("transform", needs="deterministic", unless="batched")
def needs_no_randomness(subject: Subject) -> None:
    """The same sample gives the same result with any seeds (claimed: 'deterministic')."""
    transform = _built(subject)

    def draws_nothing(sample: Any, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            first, second = _seeded(transform, sample, seed), _seeded(transform, sample, seed + 1)
        expect(same(first, second), "the result depends on the seeds, but the trait 'deterministic' claims otherwise")

    for_all(draws_nothing, sample=_samples(subject), seed=st.integers(0, 1000), fraction=0.1)


def _seeded(transform: Callable[[Any], Any], sample: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (third-party transforms draw from the global generators, which the loader seeds)
    return copied(transform(copied(sample)))
