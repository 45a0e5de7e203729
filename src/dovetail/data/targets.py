"""From a column of labels to class indices, or of numbers to a regression's values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from dovetail.config.diagnostics import suggest
from dovetail.data.errors import DataError, count, listing
from dovetail.data.strata import natural_key

Array = npt.NDArray[Any]
Task = Literal["classification", "regression"]
#: Makes the error for a row of the source.
Fail = Callable[[int, str], DataError]


def make_targets(
    values: Array, what: str, task: Task, classes: Sequence[str], fail: Fail
) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    """Return the targets and, for a classification, the names of the classes.

    Args:
        values: one value a row, none missing: numbers, or objects that are str.
        what: the column's name, for messages.
        task: classes give int64 indices ``[rows]``, a regression float32 values ``[rows, 1]``.
        classes: the names of the classes in the order of their indices; empty takes the different labels, sorted as
            a person would (2 before 10). Labels that are integers are indices into ``classes``, unless a name there
            is an integer.
        fail: makes the error for a row.

    Raises:
        DataError: a label is not among ``classes``, text is to be regressed, numbers with fractions are to be
            classes, or there is one class only.
    """
    if task == "regression":
        if classes:
            raise DataError("task = 'regression' has no classes: leave `classes` out")
        return _regression(values, what, fail), None
    labels = _labels(values, what, fail)
    if not classes:
        names = tuple(sorted(set(labels), key=natural_key))
        if len(names) == 1:
            raise DataError(f"every row has the same label in '{what}': '{names[0]}'")
        return _indices(labels, names), names
    names = tuple(classes)
    if len(set(names)) < len(names):
        raise DataError(f"classes names {listing([name for name in names if names.count(name) > 1][:1])} twice")
    if values.dtype != object and not any(_is_integer(name) for name in names):
        wrong = np.flatnonzero((values < 0) | (values >= len(names)))
        if len(wrong):
            row = int(wrong[0])
            raise fail(
                row,
                f"label {labels[row]} in '{what}' is out of range: {count(len(names), 'class')} have indices "
                f"0 to {len(names) - 1}",
            )
        return torch.from_numpy(values.astype(np.int64)), names
    for row, label in enumerate(labels):
        if label not in names:
            raise fail(row, f"label '{label}' in '{what}' is none of the classes{suggest(label, names)}")
    return _indices(labels, names), names


def _indices(labels: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[label] for label in labels])


def _labels(values: Array, what: str, fail: Fail) -> list[str]:
    if values.dtype == object:
        return [str(value) for value in values]
    if values.dtype.kind == "f":
        wrong = np.flatnonzero(values != np.floor(values))
        if len(wrong):
            row = int(wrong[0])
            raise fail(row, f"{values[row]:g} in '{what}' is no class label; for numbers set task = 'regression'")
    return [str(int(value)) for value in values]


def _regression(values: Array, what: str, fail: Fail) -> torch.Tensor:
    if values.dtype == object:
        raise fail(0, f"'{what}' is text ('{values[0]}'); set task = 'classification' for labels")
    with np.errstate(over="ignore"):
        targets = values.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(targets))
    if len(wrong):
        raise fail(int(wrong[0]), f"{values[wrong[0]]:g} in '{what}' is not a finite float32 number")
    return torch.from_numpy(targets)[:, None]


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
