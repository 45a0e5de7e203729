"""Targets: what a model learns to predict, from one column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dovetail.config.diagnostics import suggest
from dovetail.data.columns import Array, RowError, Task, natural_key
from dovetail.data.errors import DataError, count, listing


def make_targets(
    values: Array, name: str, task: Task, classes: Sequence[str], row_error: RowError
) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    """Return the targets and, for a classification, the names of the classes.

    Args:
        values: one value per row, none missing: numbers, or an object array of str.
        name: the column's name, for messages.
        task: ``classification`` gives int64 indices ``[rows]``, ``regression`` float32 values ``[rows, 1]``.
        classes: the names of the classes in the order of their indices. If empty, the distinct labels in natural order
            (2 before 10). Integer labels are indices into ``classes``, unless a name in ``classes`` is an integer.
        row_error: builds the error for a row.

    Raises:
        DataError: a label is not among ``classes``, the values of a regression are text, class labels have fractions,
            or there is only one class.
    """
    if task == "regression":
        if classes:
            raise DataError("task = 'regression' has no classes: leave `classes` out")
        return _regression_targets(values, name, row_error), None
    labels = _labels(values, name, row_error)
    if not classes:
        names = tuple(sorted(set(labels), key=natural_key))
        if len(names) == 1:
            raise DataError(f"every row has the same label in '{name}': '{names[0]}'")
        return _indices(labels, names), names
    names = tuple(classes)
    if len(set(names)) < len(names):
        raise DataError(f"classes names {listing([each for each in names if names.count(each) > 1][:1])} twice")
    if values.dtype != object and not any(each.removeprefix("-").isdecimal() for each in names):
        wrong = np.flatnonzero((values < 0) | (values >= len(names)))
        if len(wrong):
            row = int(wrong[0])
            raise row_error(
                row,
                f"label {labels[row]} in '{name}' is out of range: {count(len(names), 'class')} have indices "
                f"0 to {len(names) - 1}",
            )
        return torch.from_numpy(values.astype(np.int64)), names
    for row, label in enumerate(labels):
        if label not in names:
            raise row_error(row, f"label '{label}' in '{name}' is not one of the classes{suggest(label, names)}")
    return _indices(labels, names), names


def _indices(labels: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[label] for label in labels])


def _labels(values: Array, name: str, row_error: RowError) -> list[str]:
    if values.dtype == object:
        return [str(value) for value in values]
    if values.dtype.kind == "f":
        wrong = np.flatnonzero(values != np.floor(values))
        if len(wrong):
            row = int(wrong[0])
            message = f"{values[row]:g} in '{name}' is not a class label; to predict numbers set task = 'regression'"
            raise row_error(row, message)
    return [str(int(value)) for value in values]


def _regression_targets(values: Array, name: str, row_error: RowError) -> torch.Tensor:
    if values.dtype == object:
        raise row_error(0, f"'{name}' is text ('{values[0]}'); set task = 'classification' for labels")
    with np.errstate(over="ignore"):
        targets = values.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(targets))
    if len(wrong):
        raise row_error(int(wrong[0]), f"{values[wrong[0]]:g} in '{name}' is not a finite float32 number")
    return torch.from_numpy(targets)[:, None]
