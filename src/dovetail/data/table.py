"""Tables as datasets: CSV and JSON Lines files, one row per sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from attrs import evolve, frozen

from dovetail.data.columns import Array, Missing, Table, Task, as_label, distinct
from dovetail.data.errors import DataError, listing
from dovetail.data.samples import TensorSamples, TextSamples
from dovetail.data.table_files import read_csv, read_jsonl
from dovetail.data.targets import make_targets
from dovetail.spec import AtLeast


def csv_table(
    path: Path,
    target: str,
    *,
    task: Task = "classification",
    features: Sequence[str] = (),
    one_hot: Sequence[str] = (),
    text: str | None = None,
    max_length: Annotated[int, AtLeast(1)] = 512,
    meta: Sequence[str] = (),
    classes: Sequence[str] = (),
    missing: Missing = "error",
    delimiter: str = ",",
) -> TensorSamples | TextSamples:
    """Return the rows of a CSV file as a dataset, inputs float32 ``[features]``.

    The first row names the columns. Missing values are, in a column of numbers, an empty cell, ``NA``, ``N/A``,
    ``NaN``, ``null``, ``None`` and ``?``, and in a column of text, an empty cell. Every column can be split by
    (``split.by``, ``split.stratify``).

    Args:
        path: the file, UTF-8, at most 1 GiB.
        target: the column to predict.
        task: ``classification`` turns the target's distinct values into classes; ``regression`` takes them as numbers.
        features: the columns of numbers that make up the input, in this order; by default every one except ``target``
            and ``meta``. Values are not rescaled; use a transform for that.
        one_hot: columns whose distinct values become one input of 0 or 1 each, after the features.
        text: a column of text to use as the input instead: int64 ``[length]``, UTF-8 bytes plus 1 (``vocab_size`` is
            257; 0 is padding, as in the ``classification`` collator).
        max_length: bytes after which a text is cut.
        meta: columns that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices; by default the sorted labels.
        missing: what to do with a row that lacks a value in a column used: ``error``, or ``drop`` the row.
        delimiter: the character between fields.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file or the options cannot be used; the message names file and line.
    """
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise DataError(f"delimiter must be one character other than a quote or an end of line, got {delimiter!r}")
    table = read_csv(Path(path), delimiter=delimiter)
    use = _TableUse(table, target, task, tuple(features), tuple(one_hot), text, max_length, tuple(meta), tuple(classes))
    return use.samples(missing)


def jsonl_table(
    path: Path,
    target: str,
    *,
    task: Task = "classification",
    features: Sequence[str] = (),
    one_hot: Sequence[str] = (),
    text: str | None = None,
    max_length: Annotated[int, AtLeast(1)] = 512,
    meta: Sequence[str] = (),
    classes: Sequence[str] = (),
    missing: Missing = "error",
) -> TensorSamples | TextSamples:
    """Return the lines of a JSON Lines file as a dataset: each line is a JSON object, its keys are the columns.

    Numbers and booleans are numbers, strings are text (``"5"`` is not a number). ``null``, ``""`` and absent keys are
    missing values. The options are those of :func:`csv_table`.

    Args:
        path: the file, UTF-8, at most 1 GiB.
        target: the key to predict.
        task: ``classification`` turns the target's distinct values into classes; ``regression`` takes them as numbers.
        features: the keys of numbers that make up the input; by default every one except ``target`` and ``meta``.
        one_hot: keys whose distinct values become one input of 0 or 1 each, after the features.
        text: a key of text to use as the input instead, as UTF-8 bytes plus 1.
        max_length: bytes after which a text is cut.
        meta: keys that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices; by default the sorted labels.
        missing: what to do with a row that lacks a value under a key used: ``error``, or ``drop`` the row.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file or the options cannot be used; the message names file and line.
    """
    table = read_jsonl(Path(path))
    use = _TableUse(table, target, task, tuple(features), tuple(one_hot), text, max_length, tuple(meta), tuple(classes))
    return use.samples(missing)


@frozen
class _TableUse:
    """A table, and the role of its columns."""

    table: Table
    target: str
    task: Task
    features: tuple[str, ...]
    one_hot: tuple[str, ...]
    text: str | None
    max_length: int
    meta: tuple[str, ...]
    classes: tuple[str, ...]

    def samples(self, missing: Missing) -> TensorSamples | TextSamples:
        self._check_names()
        use = self if self.text is not None or self.features else evolve(self, features=self._default_features())
        if use.text is None and not use.features and not use.one_hot:
            raise DataError.at(
                self.table.path, "no column of numbers is left for the input; name one in `one_hot` or `text`"
            )
        used = [name for name in (use.target, *use.features, *use.one_hot, use.text) if name is not None]
        return _build(evolve(use, table=self.table.complete(used, missing)))

    def _check_names(self) -> None:
        table = self.table
        named = {"target": (self.target,), "features": self.features, "one_hot": self.one_hot, "meta": self.meta}
        if self.text is not None:
            named["text"] = (self.text,)
            if self.features or self.one_hot:
                raise DataError("an input is either `text` or `features` and `one_hot`, not both")
        for option, names in named.items():
            for name in names:
                table.column(name, option)
            if len(set(names)) < len(names):
                raise DataError(f"{option} names a column twice: {listing(names)}")
            if option in {"features", "one_hot", "text"} and self.target in names:
                raise DataError(f"the target '{self.target}' is also in {option}: the model would only copy it")
        for name in (name for name in self.features if table.columns[name].dtype == object):
            line, found = table.mixed.get(name, (0, ""))
            place = f"line {line} has '{found}'" if name in table.mixed else "it is text"
            raise DataError.at(table.path, f"features: column '{name}' is not numeric: {place}; perhaps `one_hot`?")
        if self.text is not None and table.columns[self.text].dtype != object:
            raise DataError.at(table.path, f"text: column '{self.text}' is numeric; put it in `features`")

    def _default_features(self) -> tuple[str, ...]:
        taken = {self.target, *self.one_hot, *self.meta}
        free = [name for name in self.table.columns if name not in taken]
        for name in free:
            if name in self.table.mixed:
                line, found = self.table.mixed[name]
                raise DataError.at(
                    self.table.path,
                    f"column '{name}' has numbers, but here '{found}'; name the columns to use in `features`, "
                    "or put this one in `meta` or `one_hot`",
                    line=line,
                )
        return tuple(name for name in free if self.table.columns[name].dtype != object)


def _build(use: _TableUse) -> TensorSamples | TextSamples:
    table = use.table
    values = table.target(use.target, use.task)
    targets, class_names = make_targets(values, use.target, use.task, use.classes, table.row_error)
    columns = table.split_columns(use.meta)
    if use.text is None:
        return TensorSamples(_inputs(use), targets, class_names, table.digest, columns, use.meta)
    return TextSamples.encode(
        table.columns[use.text].tolist(),
        use.max_length,
        target_values=targets,
        class_names=class_names,
        fingerprint=table.digest,
        columns=columns,
        meta=use.meta,
    )


def _inputs(use: _TableUse) -> torch.Tensor:
    table = use.table
    inputs = np.empty((len(table.lines), len(use.features)), dtype=np.float32)
    for place, name in enumerate(use.features):
        values = table.columns[name]
        with np.errstate(over="ignore"):
            inputs[:, place] = values
        wrong = np.flatnonzero(~np.isfinite(inputs[:, place]))
        if len(wrong):
            row = int(wrong[0])
            raise table.row_error(row, f"{values[row]:g} in '{name}' is not a finite float32 number")
    blocks = [inputs, *(_one_hot(table.labels(name)) for name in use.one_hot)]
    return torch.from_numpy(np.concatenate(blocks, axis=1))


def _one_hot(values: Array) -> Array:
    names = distinct(values)
    index = {name: number for number, name in enumerate(names)}
    texts = values if values.dtype == object else [as_label(value) for value in values.tolist()]
    return np.eye(len(names), dtype=np.float32)[[index[text] for text in texts]]
