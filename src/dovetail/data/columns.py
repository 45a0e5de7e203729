"""Columns: the rows of a table by column, and missing values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from attrs import define, evolve, frozen

from dovetail.config.diagnostics import suggest
from dovetail.data.errors import DataError, count, listing

if TYPE_CHECKING:
    import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[Any]"
#: A cell: text or a number as in the file, None if there is no value.
Cell = str | float | None
#: The line that a row begins in, and its cells.
Row = tuple[int, Sequence[Cell]]
Missing = Literal["error", "drop"]
Task = Literal["classification", "regression"]
#: Builds the error for a row of the source.
RowError = Callable[[int, str], DataError]

#: What stands for a missing value in a column of numbers; in a column of text, these are text.
MISSING_WORDS: Final = frozenset({"na", "n/a", "nan", "null", "none", "?"})
#: The numbers that stand for booleans, in lower case.
_BOOLEANS: Final = {"true": 1.0, "false": 0.0}


# --- values -----------------------------------------------------------------------------------------------------------


def number(cell: Cell) -> float | None:
    """Return a cell's number, or None if the cell is not a number.

    Infinity is a number here, so that the check for finite values reports it. "1_000" and "nan" are not numbers.
    """
    if not isinstance(cell, str):
        return cell
    if "_" in cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def as_label(value: Any) -> str:
    """Return a value of a column as text; a whole number has no decimal point."""
    if isinstance(value, int):
        return str(int(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that orders numbers inside text by value: ``class2`` before ``class10``."""
    if re.fullmatch(r"-\d{1,18}", text):
        return ((0, int(text), ""),)
    parts = re.findall(r"(\d{1,18})|(\D+|\d+)", text)
    return tuple((0, int(digits), "") if digits else (1, 0, other) for digits, other in parts)


def distinct(values: Array) -> list[str]:
    """Return the distinct values of a column as text, numbers in numeric and text in natural order."""
    if values.dtype.kind in "iufb":
        return [as_label(value) for value in np.unique(values).tolist()]
    return sorted({str(value) for value in values}, key=natural_key)


def compact(values: Array) -> Array:
    """Return a table's column for splits and meta: int64 if every number is whole, and "" for missing text."""
    if values.dtype == object:
        return np.asarray(["" if value is None else value for value in values], dtype=object)
    whole = np.isfinite(values).all() and (values == np.floor(values)).all() and (np.abs(values) < 2**53).all()
    return values.astype(np.int64) if whole else values


# --- tables -----------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class Table:
    """The rows of a file, by column."""

    path: Path
    #: SHA-256 of the file.
    digest: str
    #: The line each row begins in, from 1.
    lines: npt.NDArray[np.int64]
    #: By name: float64 with NaN for missing values, or objects: str, and None for missing values.
    columns: dict[str, Array]
    #: Columns of text that also contain numbers: the line of their first text, and that text.
    mixed: dict[str, tuple[int, str]]
    #: The text of columns of numbers whose numbers do not tell it: ``007``, ``1e3``, ``True``, integers beyond 2^53.
    texts: dict[str, Array]

    def labels(self, name: str) -> Array:
        """Return a column as labels, in which different texts stay different: numbers only if they tell their text."""
        return self.texts.get(name, self.columns[name])

    def target(self, name: str, task: Task) -> Array:
        """Return the column to predict: labels, or the numbers of a regression."""
        return self.labels(name) if task == "classification" else self.columns[name]

    def split_columns(self, meta: Sequence[str]) -> dict[str, Array]:
        """Return every column for splits; those of ``meta``, which batches hold, with their numbers."""
        return {name: compact(self.columns[name] if name in meta else self.labels(name)) for name in self.columns}

    def column(self, name: str, option: str) -> Array:
        """Return a column.

        Args:
            name: the column's name.
            option: the option that asks for the column, for the message.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.columns:
            raise DataError.at(
                self.path,
                f"{option}: there is no column '{name}'{suggest(name, self.columns)}"
                f" (there are {listing(list(self.columns))})",
            )
        return self.columns[name]

    def row_error(self, row: int, message: str) -> DataError:
        """Return the error for a row, with its line."""
        return DataError.at(self.path, message, line=int(self.lines[row]))

    def complete(self, used: Sequence[str], missing: Missing) -> Table:
        """Return the table with only the rows that have a value in every column of ``used``.

        Raises:
            DataError: a value is missing and ``missing`` is ``error``, or no row is left.
        """
        gaps = np.zeros(len(self.lines), dtype=np.bool_)
        for name in used:
            values = self.columns[name]
            gap = np.asarray([value is None for value in values]) if values.dtype == object else np.isnan(values)
            if gap.any() and missing == "error":
                others = f" (nor do {count(int(gap.sum()) - 1, 'other row')})" if gap.sum() > 1 else ""
                raise self.row_error(
                    int(np.argmax(gap)), f"'{name}' has no value here{others}; missing = \"drop\" drops such rows"
                )
            gaps |= gap
        if gaps.all():
            raise DataError.at(self.path, "every row lacks a value in one of the columns used")
        if not gaps.any():
            return self
        rows = np.flatnonzero(~gaps)
        columns = {name: values[rows] for name, values in self.columns.items()}
        texts = {name: values[rows] for name, values in self.texts.items()}
        return evolve(self, lines=self.lines[rows], columns=columns, texts=texts)


@define
class _Content:
    """What the cells of a column contain."""

    numbers: bool = False
    #: Whether there are ``true`` and ``false``, which are 1 and 0 in a column of nothing else.
    booleans: bool = False
    #: The first cell that is neither a number nor missing, with its line.
    text: tuple[int, str] | None = None
    #: Whether all numbers are whole; how they are written: as ``1``, as ``1.0``, or in another way.
    whole: bool = True
    plain: bool = False
    dotted: bool = False
    otherwise: bool = False

    @property
    def numeric(self) -> bool:
        return self.numbers != self.booleans and self.text is None

    @property
    def keeps_text(self) -> bool:
        """Whether numbers may not tell the text of all cells."""
        return self.numeric and self.whole and (self.booleans or self.otherwise or (self.plain and self.dotted))

    def add(self, line: int, cell: Cell, value: float | None, missing: frozenset[str]) -> None:
        if value is not None:
            self.numbers = True
            self._add_notation(cell, value)
        elif isinstance(cell, str) and cell.lower() in _BOOLEANS:
            self.booleans = True
            self.text = self.text or ((line, cell) if self.numbers else None)
        elif cell is not None and self.text is None and str(cell).lower() not in missing:
            self.text = (line, str(cell))

    def _add_notation(self, cell: Cell, value: float) -> None:
        self.whole = self.whole and float(value).is_integer()
        if not self.whole:
            return
        written, whole = _written(cell), str(int(float(value)))
        if written == whole:
            self.plain = True
        elif written == f"{whole}.0":
            self.dotted = True
        else:
            self.otherwise = True


def _written(cell: Cell) -> str:
    return cell if isinstance(cell, str) else as_label(cell)


def build_table(
    path: Path,
    digest: str,
    names: list[str],
    rows: Callable[[], Iterable[Row]],
    *,
    number_of: Callable[[Cell], float | None],
    missing: frozenset[str],
) -> Table:
    """Return the table of ``rows``, read twice: to find the columns of numbers, and to fill the arrays.

    Args:
        path: the file, for messages.
        digest: the file's SHA-256.
        names: the columns' names.
        rows: returns an iterator over the rows; called twice.
        number_of: returns a cell's number, or None.
        missing: lower-case text that stands for a missing value in a column of numbers.

    Raises:
        DataError: there are no rows.
    """
    contents = [_Content() for _ in names]
    lines: list[int] = []
    for line, cells in rows():
        lines.append(line)
        for content, cell in zip(contents, cells, strict=True):
            content.add(line, cell, number_of(cell), missing)
    if not lines:
        raise DataError.at(path, "there are no rows below the header")
    arrays: list[Array] = [
        np.full(len(lines), math.nan) if content.numeric else np.full(len(lines), None, dtype=object)
        for content in contents
    ]
    texts = {place: np.full(len(lines), None, dtype=object) for place, found in enumerate(contents) if found.keeps_text}
    words: dict[str, str] = {}
    for row, (_, cells) in enumerate(rows()):
        for place, (array, cell) in enumerate(zip(arrays, cells, strict=True)):
            if array.dtype != object:
                value = _value(cell, number_of)
                array[row] = math.nan if value is None else value
            text_array = array if array.dtype == object else texts.get(place)
            if text_array is not None and cell is not None:
                # A label appears in thousands of rows: keep one string object for all of them.
                text = _written(cell)
                text_array[row] = words.setdefault(text, text)
    return Table(
        path,
        digest,
        np.asarray(lines),
        dict(zip(names, arrays, strict=True)),
        {name: found.text for name, found in zip(names, contents, strict=True) if found.numbers and found.text},
        {
            names[place]: column
            for place, column in texts.items()
            if contents[place].booleans or contents[place].otherwise or _merges(column, arrays[place])
        },
    )


def _merges(texts: Array, numbers: Array) -> bool:
    """Return whether two different texts are the same number."""
    return len(set(texts) - {None}) > len(np.unique(numbers[~np.isnan(numbers)]))


def _value(cell: Cell, number_of: Callable[[Cell], float | None]) -> float | None:
    value = number_of(cell)
    return _BOOLEANS.get(cell.lower()) if value is None and isinstance(cell, str) else value
