"""Collators: the batch contains every sample, in order."""

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
    result: Any = collator(samples)
    if not isinstance(result, Mapping):
        fail(f"it returned {type(result).__name__}; a batch is a dict with inputs, targets, mask and meta")
    batch: Batch = result  # type: ignore[assignment] # other checks look at its entries
    return batch


def _problem(subject: Subject, form: str, shape: tuple[int | None, ...] = SHAPES[0]) -> str | None:
    """Return the error that samples of this form and shape raise, or None if the collator accepts them."""
    collator = subject.build()
    try:
        _collate(collator, [FORMS[form](filled(shape, 3 + seed), seed) for seed in range(3)])
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # noqa: BLE001 (any exception means that the form does not fit)
        return f"{type(error).__name__}: {error}"
    return None


def _samples(subject: Subject, min_size: int = 1) -> st.SearchStrategy[list[Any]]:
    """Return a strategy of lists of samples, in every form that the collator accepts."""
    if subject.batches is not None:
        return subject.batches.map(list).filter(lambda drawn: len(drawn) >= min_size)
    shapes = (*SHAPES, *RAGGED_SHAPES) if "variable_length" in subject.traits else SHAPES
    accepted = {form: [shape for shape in shapes if _problem(subject, form, shape) is None] for form in FORMS}
    if not any(accepted.values()):
        raise NotApplicable("it accepts none of the kit's samples; see collator.takes_samples")
    return st.one_of([sample_lists(FORMS[form], fitting, min_size) for form, fitting in accepted.items() if fitting])


@check("collator")
def takes_samples(subject: Subject) -> None:
    """It accepts samples of one of the common forms, or the author's samples."""
    if subject.batches is not None:
        return
    problems = {form: _problem(subject, form) for form in FORMS}
    errors = "\n".join(f"  {form}: {problem}" for form, problem in problems.items())
    expect(
        None in problems.values(),
        f"it accepts none of the kit's samples:\n{errors}\n"
        "Pass conformance() a strategy of lists of samples that fit, batches=.",
    )


@check("collator", needs="variable_length")
def takes_samples_of_different_lengths(subject: Subject) -> None:
    """It accepts samples of different lengths (claimed: 'variable_length')."""
    if subject.batches is not None:
        raise NotApplicable("the author's strategy draws its samples")
    tried = [(form, shape) for form in FORMS for shape in RAGGED_SHAPES]
    problems = {(form, shape): _problem(subject, form, shape) for form, shape in tried}
    errors = "\n".join(f"  {form} {shape}: {problem}" for (form, shape), problem in problems.items())
    expect(
        None in problems.values(),
        f"it accepts no samples of different lengths, but the trait 'variable_length' claims that it does:\n{errors}",
    )


@check("collator")
def batch_has_known_keys(subject: Subject) -> None:
    """The batch is a dict with inputs and optionally targets, mask and meta, each with one entry per sample."""
    collator = subject.build()

    def is_well_formed(samples: list[Any]) -> None:
        batch = _collate(collator, samples)
        unknown = sorted(set(map(str, batch)) - {"inputs", "targets", "mask", "meta"})
        expect(
            not unknown,
            f"the batch has the unknown key '{unknown[0] if unknown else ''}'; put other values of the samples in meta",
        )
        expect("inputs" in batch, f"the batch has no key 'inputs', only {sorted(batch)}")
        for name, value in _entries(batch):
            size = len(value) if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim) else None
            expect(size is not None, f"{name} is a {type(value).__name__} without a dimension for samples")
            expect(
                size == batch_size(batch), f"{name} has {size} entries, but the batch has {batch_size(batch)} samples"
            )

    for_all(is_well_formed, samples=_samples(subject))


def _entries(batch: Batch) -> list[tuple[str, Any]]:
    """Return the entries of a batch with their paths, such as ``meta.rpm``."""
    entries: list[tuple[str, Any]] = []
    for key, value in batch.items():
        if isinstance(value, Mapping):
            entries += [(f"{key}.{name}", item) for name, item in value.items()]
        else:
            entries.append((key, value))
    return entries


@check("collator")
def every_sample_is_kept(subject: Subject) -> None:
    """A batch has as many samples as the list, even if that is only one."""
    collator = subject.build()

    def keeps_all(samples: list[Any]) -> None:
        size = batch_size(_collate(collator, samples))
        expect(
            size == len(samples),
            f"it made a batch of {size} from {len(samples)} samples; a run would neither train on nor count the "
            "others. Filter the dataset instead.",
        )

    for_all(keeps_all, samples=_samples(subject))


@check("collator", unless="mixes_samples")
def every_sample_is_in_its_place(subject: Subject) -> None:
    """Row i of a batch equals the batch of sample i alone, apart from padding."""
    collator = subject.build()

    def keeps_places(samples: list[Any]) -> None:
        batch = dict(_entries(_collate(collator, samples)))
        for row, sample in enumerate(samples):
            alone = dict(_entries(_collate(collator, [sample])))
            expect(
                alone.keys() == batch.keys(),
                f"a batch has the entries {sorted(batch)}, but the batch of a single sample {sorted(alone)}",
            )
            for name, value in batch.items():
                expect(
                    _is_padded(alone[name][0], value[row]),
                    f"{name}: row {row} of a batch of {len(samples)} differs from the batch of sample {row} alone: "
                    "samples are reordered, mixed or changed. If it is intended to mix samples, add the trait "
                    "'mixes_samples'.",
                )

    for_all(keeps_places, samples=_samples(subject, min_size=2))


def _is_padded(short: Any, long: Any) -> bool:
    """Return whether ``long`` equals ``short``, or is ``short`` padded at the end with a single value."""
    if not (isinstance(short, Tensor) and isinstance(long, Tensor)) or short.shape == long.shape:
        return same(short, long)
    if short.ndim != long.ndim or any(size > padded for size, padded in zip(short.shape, long.shape, strict=True)):
        return False
    inside = tuple(slice(0, size) for size in short.shape)
    around = torch.ones(long.shape, dtype=torch.bool)
    around[inside] = False
    return same(short, long[inside]) and bool((long[around] == long[around][0]).all())


@check("collator")
def samples_are_left_alone(subject: Subject) -> None:
    """Collating leaves the samples unchanged and copies them, because a dataset may return its own memory."""
    collator = subject.build()

    def changes_nothing(samples: list[Any]) -> None:
        before = copied(samples)
        batch = _collate(collator, samples)
        expect(same(before, samples), "it changed the samples in place; copy them first")
        for _, value in _entries(batch):
            if isinstance(value, Tensor) and value.is_floating_point():
                value.add_(1)
        expect(
            same(before, samples),
            "the batch shares memory with the samples, so a change to the batch changes the dataset; copy them",
        )

    for_all(changes_nothing, samples=_samples(subject), fraction=0.2)
