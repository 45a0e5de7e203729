"""Datasets: samples stay where they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from dovetail.testkit.registry import check, expect, fail
from dovetail.testkit.samples import copied, same
from dovetail.testkit.subject import Subject

_LOOKED_AT: Final = 20
_SPLITS: Final = ("train", "validation", "test")


def _datasets(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Yield what was built: one dataset, or each split that there is."""
    built = subject.build()
    if hasattr(built, "__getitem__") and not isinstance(built, tuple):
        yield "the dataset", built
        return
    for name in _SPLITS:
        one = getattr(built, name, None)
        if one is not None:
            yield f"its {name} split", one


def _indices(dataset: Any) -> list[int]:
    """Return some indices: the first, the last, and some between."""
    step = max(1, len(dataset) // _LOOKED_AT)
    return sorted({*range(0, len(dataset), step), len(dataset) - 1})


@check("dataset")
def has_samples(subject: Subject) -> None:
    """It has a length of at least one, and a sample at every index."""
    found = list(_datasets(subject))
    expect(found, "the factory returned neither a map-style dataset nor Splits with a train part")
    for what, dataset in found:
        size = len(dataset)
        expect(size > 0, f"{what} has the length {size!r}")
        for index in _indices(dataset):
            dataset[index]


@check("dataset")
def samples_have_a_common_form(subject: Subject) -> None:
    """Every sample is ``(input, target)``, or a dict with ``inputs``, all of them of one form."""
    for what, dataset in _datasets(subject):
        forms = {_form(dataset[index]) for index in _indices(dataset)}
        expect(len(forms) == 1, f"{what} mixes samples of the forms {sorted(forms)}")
        form = forms.pop()
        expect(
            form.startswith("a tuple of 2") or (form.startswith("a dict") and "inputs" in form),
            f"{what} gives {form}; a sample is (input, target), or a dict with 'inputs' and 'targets'",
        )


def _form(sample: Any) -> str:
    if isinstance(sample, dict):
        return f"a dict with {sorted(sample)}"
    return f"a tuple of {len(sample)}" if isinstance(sample, tuple | list) else type(sample).__name__


@check("dataset")
def indexing_is_deterministic(subject: Subject) -> None:
    """The same index gives the same sample: again, in any order, and from a dataset that is built anew."""
    for (what, dataset), (_, another) in zip(_datasets(subject), _datasets(subject), strict=True):
        indices = _indices(dataset)
        first = [copied(dataset[index]) for index in indices]
        for index, sample in reversed(list(zip(indices, first, strict=True))):
            expect(same(sample, dataset[index]), f"{what}: sample {index} is another one when it is asked for again")
            expect(
                same(sample, another[index]), f"{what}: sample {index} is another one in a dataset that was built anew"
            )


@check("dataset")
def the_end_is_the_end(subject: Subject) -> None:
    """An index beyond the last sample is an IndexError."""
    for what, dataset in _datasets(subject):
        try:
            dataset[len(dataset)]
        except IndexError:
            continue
        fail(f"{what} has a sample at index {len(dataset)}, which is its length")


@check("dataset")
def what_it_tells_is_true(subject: Subject) -> None:
    """``targets`` has one entry per sample, and every class index is below ``num_classes``."""
    for what, dataset in _datasets(subject):
        targets = getattr(dataset, "targets", None)
        if targets is not None:
            expect(len(targets) == len(dataset), f"{what} has {len(dataset)} samples, and {len(targets)} targets")
        classes, names = getattr(dataset, "num_classes", None), getattr(dataset, "class_names", None)
        if classes is not None and targets is not None:
            highest = max(int(one) for one in targets)
            expect(highest < classes, f"{what} says that it has {classes} classes, and has the class {highest}")
        if classes is not None and names is not None:
            expect(len(names) == classes, f"{what} has {classes} classes, and {len(names)} class_names")
