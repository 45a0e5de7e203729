"""Datasets: every index always gives the same sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from dovetail.testkit.registry import check, expect, fail
from dovetail.testkit.samples import copied, same
from dovetail.testkit.subject import Subject

_MAX_SAMPLES: Final = 20
_SPLITS: Final = ("train", "validation", "test")


def _datasets(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Yield the dataset, or each of its splits, with a description for messages."""
    built = subject.build()
    if hasattr(built, "__getitem__") and not isinstance(built, tuple):
        yield "the dataset", built
        return
    for name in _SPLITS:
        split = getattr(built, name, None)
        if split is not None:
            yield f"its {name} split", split


def _indices(dataset: Any) -> list[int]:
    """Return the first, the last and some indices in between."""
    step = max(1, len(dataset) // _MAX_SAMPLES)
    return sorted({*range(0, len(dataset), step), len(dataset) - 1})


@check("dataset")
def has_samples(subject: Subject) -> None:
    """It has at least one sample, and a sample at every index below its length."""
    datasets = list(_datasets(subject))
    expect(datasets, "the factory returned neither a map-style dataset nor Splits with a train split")
    for what, dataset in datasets:
        size = len(dataset)
        expect(size > 0, f"{what} has length {size!r}; it needs at least one sample")
        for index in _indices(dataset):
            dataset[index]


@check("dataset")
def samples_have_a_common_form(subject: Subject) -> None:
    """Every sample is ``(input, target)``, or every sample is a dict with ``inputs``."""
    for what, dataset in _datasets(subject):
        forms = {_form(dataset[index]) for index in _indices(dataset)}
        expect(len(forms) == 1, f"{what} mixes samples of the forms {sorted(forms)}")
        form = forms.pop()
        expect(
            form.startswith("a tuple of 2") or (form.startswith("a dict") and "inputs" in form),
            f"{what} returns {form}; a sample must be (input, target) or a dict with 'inputs' and 'targets'",
        )


def _form(sample: Any) -> str:
    if isinstance(sample, dict):
        return f"a dict with {sorted(sample)}"
    return f"a tuple of {len(sample)}" if isinstance(sample, tuple | list) else type(sample).__name__


@check("dataset")
def indexing_is_deterministic(subject: Subject) -> None:
    """An index gives the same sample every time, in any order, and in a dataset that is built again."""
    for (what, dataset), (_, another) in zip(_datasets(subject), _datasets(subject), strict=True):
        indices = _indices(dataset)
        first = [copied(dataset[index]) for index in indices]
        for index, sample in reversed(list(zip(indices, first, strict=True))):
            expect(same(sample, dataset[index]), f"{what}: sample {index} differs when read again")
            expect(same(sample, another[index]), f"{what}: sample {index} differs in a dataset built again")


@check("dataset")
def the_end_is_the_end(subject: Subject) -> None:
    """An index past the last sample raises IndexError."""
    for what, dataset in _datasets(subject):
        try:
            dataset[len(dataset)]
        except IndexError:
            continue
        fail(f"{what} returns a sample for index {len(dataset)}, its length; it must raise IndexError")


@check("dataset")
def what_it_tells_is_true(subject: Subject) -> None:
    """``targets`` has one entry per sample, and every class index is below ``num_classes``."""
    for what, dataset in _datasets(subject):
        targets = getattr(dataset, "targets", None)
        if targets is not None:
            expect(len(targets) == len(dataset), f"{what} has {len(dataset)} samples but {len(targets)} targets")
        classes, names = getattr(dataset, "num_classes", None), getattr(dataset, "class_names", None)
        if classes is not None and targets is not None:
            highest = max(int(target) for target in targets)
            expect(highest < classes, f"{what} has num_classes {classes}, but a target of class {highest}")
        if classes is not None and names is not None:
            expect(len(names) == classes, f"{what} has num_classes {classes}, but {len(names)} class_names")
