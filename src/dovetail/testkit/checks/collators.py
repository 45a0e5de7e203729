"""Collators: every sample arrives, in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from dovetail.data.batch import Batch, batch_size
from dovetail.testkit.properties import for_all
from dovetail.testkit.registry import CheckFailed, NotApplicable, check, expect, fail
from dovetail.testkit.samples import FORMS, RAGGED_SHAPES, SHAPES, copied, filled, same, sample_lists
from dovetail.testkit.subject import Subject


def _collate(collator: Callable[[list[Any]], Any], samples: list[Any]) -> Batch:
    found: Any = collator(samples)
    if not isinstance(found, Mapping):
        fail(f"it returned {type(found).__name__}; a batch is a dict with inputs, targets, mask and meta")
    batch: Batch = found  # type: ignore[assignment] # what it holds is looked at by the checks
    return batch


def _problem(subject: Subject, form: str, shape: tuple[int | None, ...] = SHAPES[0]) -> str | None:
    """Say what happens with samples of this form and shape, or None where they can be collated."""
    collator = subject.build()
    try:
        _collate(collator, [FORMS[form](filled(shape, 3 + seed), seed) for seed in range(3)])
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # noqa: BLE001 (whatever it raises means that this form does not fit)
        return f"{type(error).__name__}: {error}"
    return None


def _samples(subject: Subject, min_size: int = 1) -> st.SearchStrategy[list[Any]]:
    """Return what to feed the collator: lists of samples of every form that it takes."""
    if subject.batches is not None:
        return subject.batches.map(list).filter(lambda drawn: len(drawn) >= min_size)
    shapes = (*SHAPES, *RAGGED_SHAPES) if "variable_length" in subject.traits else SHAPES
    taken = {form: [shape for shape in shapes if _problem(subject, form, shape) is None] for form in FORMS}
    if not any(taken.values()):
        raise NotApplicable("it takes none of the kit's samples: see collator.takes_samples")
    return st.one_of([sample_lists(FORMS[form], fitting, min_size) for form, fitting in taken.items() if fitting])


@check("collator")
def takes_samples(subject: Subject) -> None:
    """It takes samples of one of the common forms, or of the form that the author draws."""
    if subject.batches is not None:
        return
    problems = {form: _problem(subject, form) for form in FORMS}
    said = "\n".join(f"  {form}: {problem}" for form, problem in problems.items())
    expect(
        None in problems.values(),
        f"it takes none of the kit's samples:\n{said}\nGive conformance() batches=, a strategy of lists of samples "
        "that fit.",
    )


@check("collator", needs="variable_length")
def takes_samples_of_different_lengths(subject: Subject) -> None:
    """It takes samples that differ in length (claimed: 'variable_length')."""
    if subject.batches is not None:
        raise NotApplicable("what it is fed is drawn by the author")
    tried = [(form, shape) for form in FORMS for shape in RAGGED_SHAPES]
    problems = {(form, shape): _problem(subject, form, shape) for form, shape in tried}
    said = "\n".join(f"  {form} {shape}: {problem}" for (form, shape), problem in problems.items())
    expect(
        None in problems.values(),
        f"it takes no samples of different lengths, though 'variable_length' claims so:\n{said}",
    )


@check("collator")
def batch_has_known_keys(subject: Subject) -> None:
    """The batch is a dict with inputs, and otherwise only targets, mask and meta, one entry per sample in each."""
    collator = subject.build()

    def is_well_formed(samples: list[Any]) -> None:
        batch = _collate(collator, samples)
        unknown = sorted(set(map(str, batch)) - {"inputs", "targets", "mask", "meta"})
        expect(
            not unknown,
            f"the batch has the key {unknown[:1]}; anything about a sample beyond inputs, targets and mask goes in "
            "meta",
        )
        expect("inputs" in batch, f"the batch has no inputs; it has {sorted(batch)}")
        for name, value in _entries(batch):
            size = len(value) if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim) else None
            expect(size is not None, f"{name} is {type(value).__name__} without a dimension of samples")
            expect(size == batch_size(batch), f"{name} holds {size} samples, but the batch holds {batch_size(batch)}")

    for_all(is_well_formed, samples=_samples(subject))


def _entries(batch: Batch) -> list[tuple[str, Any]]:
    """Return everything in a batch that has one entry per sample, by its place."""
    found: list[tuple[str, Any]] = []
    for key, value in batch.items():
        found += (
            [(f"{key}.{name}", one) for name, one in value.items()] if isinstance(value, Mapping) else [(key, value)]
        )
    return found


@check("collator")
def every_sample_is_kept(subject: Subject) -> None:
    """A batch has as many samples as it was made of, also when that is one."""
    collator = subject.build()

    def keeps_all(samples: list[Any]) -> None:
        found = batch_size(_collate(collator, samples))
        expect(
            found == len(samples),
            f"{len(samples)} samples went in and {found} came out: the rest would never be trained on or counted. "
            "Filter the dataset instead, where everybody sees it.",
        )

    for_all(keeps_all, samples=_samples(subject))


@check("collator", unless="mixes_samples")
def every_sample_is_in_its_place(subject: Subject) -> None:
    """Row i of a batch is what sample i alone would give, apart from padding."""
    collator = subject.build()

    def keeps_places(samples: list[Any]) -> None:
        batch = dict(_entries(_collate(collator, samples)))
        for place, sample in enumerate(samples):
            alone = dict(_entries(_collate(collator, [sample])))
            expect(alone.keys() == batch.keys(), f"a batch has {sorted(batch)}, but of one sample {sorted(alone)}")
            for name, value in batch.items():
                expect(
                    _is_padded(alone[name][0], value[place]),
                    f"{name}: row {place} of a batch of {len(samples)} is not what sample {place} gives when "
                    "collated alone: "
                    "samples are reordered, mixed up or changed. If mixing is meant, give it the trait "
                    "'mixes_samples'.",
                )

    for_all(keeps_places, samples=_samples(subject, min_size=2))


def _is_padded(short: Any, long: Any) -> bool:
    """Say whether ``long`` is ``short``, or ``short`` at its beginning with one value all around."""
    if not (isinstance(short, Tensor) and isinstance(long, Tensor)) or short.shape == long.shape:
        return same(short, long)
    if short.ndim != long.ndim or any(one > other for one, other in zip(short.shape, long.shape, strict=True)):
        return False
    inside = tuple(slice(0, size) for size in short.shape)
    around = torch.ones(long.shape, dtype=torch.bool)
    around[inside] = False
    return same(short, long[inside]) and bool((long[around] == long[around][0]).all())


@check("collator")
def samples_are_left_alone(subject: Subject) -> None:
    """Samples are not changed: the dataset may hand out its own memory."""
    collator = subject.build()

    def changes_nothing(samples: list[Any]) -> None:
        before = copied(samples)
        batch = _collate(collator, samples)
        expect(same(before, samples), "collating changed the samples")
        for _, value in _entries(batch):
            if isinstance(value, Tensor) and value.is_floating_point():
                value.add_(1)
        expect(same(before, samples), "the batch shares memory with the samples: what changes one changes the other")

    for_all(changes_nothing, samples=_samples(subject), share=0.2)
