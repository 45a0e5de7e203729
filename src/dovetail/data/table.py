"""Tables as datasets: CSV and JSON Lines files, a row a sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from attrs import evolve, frozen

from dovetail.data.errors import DataError, count, listing
from dovetail.data.rows import Array, Table, read_csv, read_jsonl
from dovetail.data.samples import Indices, TensorSamples
from dovetail.data.strata import distinct, label
from dovetail.data.targets import Task, make_targets
from dovetail.data.text import TextSamples
from dovetail.spec.limits import AtLeast

Missing = Literal["error", "drop"]


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

    The first row names the columns. In a column of numbers, an empty cell, ``NA``, ``N/A``, ``NaN``, ``null``,
    ``None`` and ``?`` are missing values; in one of text, an empty cell. Every column can be split by (``split.by``,
    ``split.stratify``).

    Args:
        path: the file, UTF-8, at most 1 GiB.
        target: the column to predict.
        task: ``classification`` makes classes of the target's different values; ``regression`` takes them as numbers.
        features: the columns of numbers that make up the input, in this order; by default every one but ``target`` and
            ``meta``. Nothing is rescaled: that is for a transform.
        one_hot: columns whose different values become an input of 0 or 1 each, after the features.
        text: a column of text to be the input instead: int64 ``[length]``, UTF-8 bytes plus 1 (``vocab_size`` is
            257; 0 is padding, as the ``classification`` collator makes it).
        max_length: bytes after which a text is cut.
        meta: columns that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices, where sorted labels are not right.
        missing: what to do about a row with a missing value among those used: ``error``, or ``drop`` the row.
        delimiter: what stands between fields, one character.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file or the options cannot be used; the message names file and line.
    """
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise DataError(f"delimiter must be one character other than a quote or an end of line, got {delimiter!r}")
    table = read_csv(Path(path), delimiter=delimiter)
    use = _Use(table, target, task, tuple(features), tuple(one_hot), text, max_length, tuple(meta), tuple(classes))
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
    """Return the lines of a JSON Lines file as a dataset: each a JSON object, its keys the columns.

    Numbers and booleans are numbers, strings are text (``"5"`` is no number), ``null``, ``""`` and absent keys are
    missing values. The options are those of :func:`csv_table`.

    Args:
        path: the file, UTF-8, at most 1 GiB.
        target: the key to predict.
        task: ``classification`` makes classes of the target's different values; ``regression`` takes them as numbers.
        features: the keys with numbers that make up the input; by default every one but ``target`` and ``meta``.
        one_hot: keys whose different values become an input of 0 or 1 each, after the features.
        text: a key with text to be the input instead, as UTF-8 bytes plus 1.
        max_length: bytes after which a text is cut.
        meta: keys that travel with each sample into the batch's ``meta``.
        classes: the classes in the order of their indices, where sorted labels are not right.
        missing: what to do about a row with a missing value among those used: ``error``, or ``drop`` the row.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file or the options cannot be used; the message names file and line.
    """
    table = read_jsonl(Path(path))
    use = _Use(table, target, task, tuple(features), tuple(one_hot), text, max_length, tuple(meta), tuple(classes))
    return use.samples(missing)


@frozen
class _Use:
    """A table, and what to make of its columns."""

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
                self.table.path, "no column of numbers is left to be the input; name one in `one_hot` or `text`"
            )
        used = [name for name in (use.target, *use.features, *use.one_hot, use.text) if name is not None]
        return _made(evolve(use, table=without_missing(self.table, used, missing)))

    def _check_names(self) -> None:
        table = self.table
        asked = {"target": (self.target,), "features": self.features, "one_hot": self.one_hot, "meta": self.meta}
        if self.text is not None:
            asked["text"] = (self.text,)
            if self.features or self.one_hot:
                raise DataError("an input is either `text` or `features` and `one_hot`, not both")
        for option, names in asked.items():
            for name in names:
                table.column(name, option)
            if len(set(names)) < len(names):
                raise DataError(f"{option} names a column twice: {listing(names)}")
            if option in {"features", "one_hot", "text"} and self.target in names:
                raise DataError(f"the target '{self.target}' is also in {option}: the model would only copy it")
        for name in (name for name in self.features if table.columns[name].dtype == object):
            line, found = table.mixed.get(name, (0, ""))
            place = f"line {line} has '{found}'" if name in table.mixed else "it is text"
            raise DataError.at(table.path, f"features: '{name}' is no column of numbers: {place}; perhaps `one_hot`?")
        if self.text is not None and table.columns[self.text].dtype != object:
            raise DataError.at(table.path, f"text: '{self.text}' is a column of numbers; put it in `features`")

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


def _made(use: _Use) -> TensorSamples | TextSamples:
    table = use.table
    targets, class_names = make_targets(table.columns[use.target], use.target, use.task, use.classes, table.fail)
    columns = {name: splittable(values) for name, values in table.columns.items()}
    if use.text is None:
        return TensorSamples(_inputs(use), targets, class_names, table.digest, columns, use.meta)
    return TextSamples.of(
        table.columns[use.text].tolist(),
        use.max_length,
        target_values=targets,
        class_names=class_names,
        fingerprint=table.digest,
        columns=columns,
        meta=use.meta,
    )


def _inputs(use: _Use) -> torch.Tensor:
    table = use.table
    inputs = np.empty((len(table.lines), len(use.features)), dtype=np.float32)
    for place, name in enumerate(use.features):
        values = table.columns[name]
        with np.errstate(over="ignore"):
            inputs[:, place] = values
        wrong = np.flatnonzero(~np.isfinite(inputs[:, place]))
        if len(wrong):
            row = int(wrong[0])
            raise table.fail(row, f"{values[row]:g} in '{name}' is not a finite float32 number")
    blocks = [inputs, *(_one_hot(table.columns[name]) for name in use.one_hot)]
    return torch.from_numpy(np.concatenate(blocks, axis=1))


def _one_hot(values: Array) -> Array:
    names = distinct(values)
    index = {name: number for number, name in enumerate(names)}
    texts = values if values.dtype == object else [label(value) for value in values.tolist()]
    return np.eye(len(names), dtype=np.float32)[[index[text] for text in texts]]


def splittable(values: Array) -> Array:
    """Return a column as splits and meta see it: int64 where every number is whole, "" for missing text."""
    if values.dtype == object:
        return np.asarray(["" if value is None else value for value in values], dtype=object)
    whole = np.isfinite(values).all() and (values == np.floor(values)).all() and (np.abs(values) < 2**53).all()
    return values.astype(np.int64) if whole else values


def without_missing(table: Table, used: Sequence[str], missing: Missing) -> Table:
    """Return the rows that have a value in every column of ``used``.

    Raises:
        DataError: there are others and ``missing`` is ``error``, or none is left.
    """
    gaps = np.zeros(len(table.lines), dtype=np.bool_)
    for name in used:
        values = table.columns[name]
        gap = np.asarray([value is None for value in values]) if values.dtype == object else np.isnan(values)
        if gap.any() and missing == "error":
            others = f" (nor have {count(int(gap.sum()) - 1, 'other row')})" if gap.sum() > 1 else ""
            raise table.fail(
                int(np.argmax(gap)), f"'{name}' has no value here{others}; missing = \"drop\" leaves such rows out"
            )
        gaps |= gap
    if gaps.all():
        raise DataError.at(table.path, "every row has a missing value in a column that is used")
    if not gaps.any():
        return table
    rows: Indices = np.flatnonzero(~gaps)
    columns = {name: values[rows] for name, values in table.columns.items()}
    return evolve(table, lines=table.lines[rows], columns=columns)
