"""Transforms: a sample stays a sample, and randomness comes from the generators that the loader seeds."""

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
    """Say what happens with a sample of this form, or None where it can be transformed."""
    transform = _built(subject)
    try:
        transform(FORMS[form](shape, 0))
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # noqa: BLE001 (whatever it raises means that this form does not fit)
        return f"{type(error).__name__}: {error}"
    return None


def _built(subject: Subject) -> Callable[[Any], Any]:
    """Build the transform; one that learns from the training split is fitted to a few samples."""
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
        raise NotApplicable("it takes none of the kit's samples: see transform.takes_samples")
    return st.builds(lambda chosen, seed: chosen[0](chosen[1], seed), st.sampled_from(fitting), st.integers(0, 1000))


@check("transform", unless="batched")
def takes_samples(subject: Subject) -> None:
    """It takes a sample of one of the common forms, or of the form that the author draws."""
    if subject.batches is not None:
        return
    problems = {form: _problem(subject, form, SHAPES[0]) for form in FORMS}
    said = "\n".join(f"  {form}: {problem}" for form, problem in problems.items())
    expect(
        None in problems.values(),
        f"it takes none of the kit's samples:\n{said}\nGive conformance() batches=, a strategy of samples that fit.",
    )


@check("transform", unless="batched")
def form_is_kept(subject: Subject) -> None:
    """A pair stays a pair, and a dict keeps its keys."""
    transform = _built(subject)

    def keeps_form(sample: Any) -> None:
        found = transform(sample)
        if isinstance(sample, Mapping):
            kept = isinstance(found, Mapping) and set(sample) <= set(found)
            expect(
                kept,
                f"a dict with {sorted(sample)} became "
                f"{sorted(found) if isinstance(found, Mapping) else type(found).__name__}",
            )
        elif isinstance(sample, tuple):
            size = len(found) if isinstance(found, tuple | list) else 0
            expect(size == len(sample), f"a sample of {len(sample)} values became {type(found).__name__} of {size}")

    for_all(keeps_form, sample=_samples(subject), share=0.2)


@check("transform", unless="batched")
def sample_is_left_alone(subject: Subject) -> None:
    """The sample that went in is not changed: the dataset may hand out its own memory."""
    transform = _built(subject)

    def changes_nothing(sample: Any) -> None:
        before = copied(sample)
        transform(sample)
        expect(same(before, sample), "the transform changed its sample in place, and so the dataset: clone first")

    for_all(changes_nothing, sample=_samples(subject), share=0.2)


@check("transform", unless="batched")
def seeds_decide(subject: Subject) -> None:
    """With the global generators seeded alike, the same sample gives the same result, whatever came before."""
    transform = _built(subject)

    def repeats_itself(sample: Any, other: Any, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            first = _seeded(transform, sample, seed)
            _seeded(transform, other, seed + 1)
            expect(
                same(first, _seeded(transform, sample, seed)),
                "with the generators of torch, NumPy and random seeded alike, the same sample came out different: "
                "it draws from a "
                "generator of its own or remembers earlier samples, so a resumed run would see other data",
            )

    samples = _samples(subject)
    for_all(repeats_itself, sample=samples, other=samples, seed=st.integers(0, 1000), share=0.2)


@check("transform", needs="deterministic", unless="batched")
def needs_no_randomness(subject: Subject) -> None:
    """Whatever the seeds, the same sample gives the same result (claimed: 'deterministic')."""
    transform = _built(subject)

    def draws_nothing(sample: Any, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            first, second = _seeded(transform, sample, seed), _seeded(transform, sample, seed + 1)
        expect(
            same(first, second), "the result depends on the seeds, though the trait 'deterministic' claims otherwise"
        )

    for_all(draws_nothing, sample=_samples(subject), seed=st.integers(0, 1000), share=0.1)


def _seeded(transform: Callable[[Any], Any], sample: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the loader seeds the global generators, which third-party transforms draw from)
    return copied(transform(copied(sample)))
