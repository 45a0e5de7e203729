"""Text files of rows, read into columns: CSV and JSON Lines. Whatever is wrong is told with its file and line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from attrs import define, frozen

from dovetail.config.diagnostics import suggest
from dovetail.data.errors import DataError, existing_file, listing
from dovetail.data.strata import label

Array = npt.NDArray[Any]
#: Where a row begins, and its cells: text or a number as the file has it, None where there is nothing.
Cell = str | float | None
Row = tuple[int, Sequence[Cell]]

#: What stands for a missing value in a column of numbers; in a column of text it is text.
MISSING: Final = frozenset({"na", "n/a", "nan", "null", "none", "?"})

_LARGEST: Final = 1 << 30  # bytes of a text file; it is held in memory about twice while being read


@frozen(eq=False)
class Table:
    """The rows of a file, by column."""

    path: Path
    #: SHA-256 of the file.
    digest: str
    #: The line each row begins in, from 1.
    lines: npt.NDArray[np.int64]
    #: float64 with NaN where there is no value, or objects: str, None where there is no value.
    columns: dict[str, Array]
    #: Columns of text that also have numbers: the line of their first text, and the text.
    mixed: dict[str, tuple[int, str]]

    def column(self, name: str, asked_by: str) -> Array:
        """Return a column; DataError, which says what was asked for where, if there is none."""
        if name not in self.columns:
            raise DataError.at(
                self.path,
                f"{asked_by}: there is no column '{name}'{suggest(name, self.columns)}"
                f" (there are {listing(list(self.columns))})",
            )
        return self.columns[name]

    def fail(self, row: int, message: str) -> DataError:
        """Return the error for a row."""
        return DataError.at(self.path, message, line=int(self.lines[row]))


def read_csv(path: Path, *, delimiter: str = ",") -> Table:
    """Read a CSV file whose first row names the columns. Blank lines are skipped.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is empty, not UTF-8, larger than 1 GiB, has rows of different lengths, a NUL character, a quote
            that is never closed, or a column without a name or with that of another.
    """
    path = existing_file(path)
    text, digest = _text(path)
    rows = _csv_rows(path, text, delimiter)
    line, header = next(rows, (1, None))
    if header is None:
        raise DataError.at(path, "the file is empty")
    names = [str(name).strip() for name in header]
    for place, name in enumerate(names):
        if not name:
            raise DataError.at(path, f"column {place + 1} has no name", line=line)
        if name in names[:place]:
            first = names.index(name) + 1
            raise DataError.at(path, f"columns {first} and {place + 1} are both named '{name}'", line=line)

    def body() -> Iterator[Row]:
        again = _csv_rows(path, text, delimiter)
        next(again)
        for number, cells in again:
            if len(cells) != len(names):
                found = f"expected {len(names)} fields as in the header, found {len(cells)}"
                raise DataError.at(path, found, line=number)
            yield number, [cell.strip() or None for cell in cells]

    return _table(path, digest, names, body, number_of=number, missing=MISSING)


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = {
                "unexpected end of data": "a quote that opens in this row is never closed",
                f"field larger than field limit ({csv.field_size_limit()})": (
                    f"a field has more than {csv.field_size_limit():,} characters; perhaps a quote is never closed"
                ),
            }.get(str(error), str(error))
            raise DataError.at(path, why, line=line) from error
        if cells:
            yield line, cells


def read_jsonl(path: Path) -> Table:
    """Read a file with a JSON object on each line; its keys are the columns. Blank lines are skipped.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is empty, not UTF-8 or larger than 1 GiB, or a line is no JSON object or has a key twice.
    """
    path = existing_file(path)
    text, digest = _text(path)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise DataError.at(path, "the file is empty")
    # A dict keeps the keys in the order in which they are first met.
    names = list(dict.fromkeys(key for number, line in lines for key in _json_object(path, number, line)))

    def body() -> Iterator[Row]:
        for number, line in lines:
            found = _json_object(path, number, line)
            yield number, [_json_cell(found.get(name)) for name in names]

    # Text in quotes is text, whatever it looks like.
    return _table(path, digest, names, body, number_of=_not_text, missing=frozenset())


def _not_text(cell: Cell) -> float | None:
    return None if isinstance(cell, str) else cell


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise DataError.at(path, f"this is no JSON: {error.msg} at character {error.colno}", line=number) from error
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise DataError.at(path, f"this is no JSON of ours: {why}", line=number) from error
    if not isinstance(found, dict):
        raise DataError.at(path, 'a JSON object is needed on each line, as in {"label": 1}', line=number)
    return found


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' appears twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number; write null for a missing value")


def _json_cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value or None
    try:
        return float(value) if isinstance(value, int | float) else json.dumps(value)
    except OverflowError:
        return json.dumps(str(value)[:20])


def _text(path: Path) -> tuple[str, str]:
    if path.stat().st_size > _LARGEST:
        raise DataError.at(
            path, "the file is larger than 1 GiB; save its arrays as .npz, which is read without parsing"
        )
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError.at(
            path, f"this is not UTF-8 (byte 0x{raw[error.start]:02x}); save it as such", line=line
        ) from None
    nul = text.find("\0")
    if nul >= 0:
        raise DataError.at(
            path, "there is a NUL character here: no text file has one", line=text.count("\n", 0, nul) + 1
        )
    return text, hashlib.sha256(raw).hexdigest()


def read_numbers(path: Path) -> Array:
    """Read a CSV file of numbers without a header: ``[rows, columns]``, or ``[rows]`` where there is one column.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: as :func:`read_csv`, or a cell is no number.
    """
    path = existing_file(path)
    text, _ = _text(path)
    rows: list[list[float]] = []
    for line, cells in _csv_rows(path, text, ","):
        if rows and len(cells) != len(rows[0]):
            raise DataError.at(
                path, f"expected {len(rows[0])} fields as in the first row, found {len(cells)}", line=line
            )
        values = [number(cell) for cell in cells]
        if None in values:
            raise DataError.at(path, f"'{cells[values.index(None)]}' is no number", line=line)
        rows.append([value for value in values if value is not None])
    if not rows:
        raise DataError.at(path, "the file is empty")
    array = np.asarray(rows)
    return array[:, 0] if array.shape[1] == 1 else array


# --- from rows to columns -------------------------------------------------------------------------------------------


@define
class _Kind:
    """What has been seen in a column."""

    numbers: bool = False
    #: The first cell that is neither a number nor stands for a missing one, and its line.
    text: tuple[int, str] | None = None

    @property
    def numeric(self) -> bool:
        return self.numbers and self.text is None

    def see(self, line: int, cell: Cell, value: float | None, missing: frozenset[str]) -> None:
        if value is not None:
            self.numbers = True
        elif cell is not None and self.text is None and str(cell).lower() not in missing:
            self.text = (line, str(cell))


def _table(
    path: Path,
    digest: str,
    names: list[str],
    rows: Callable[[], Iterable[Row]],
    *,
    number_of: Callable[[Cell], float | None],
    missing: frozenset[str],
) -> Table:
    """Go over the rows twice: to see which columns hold numbers, and to take each into an array of its kind."""
    kinds = [_Kind() for _ in names]
    lines: list[int] = []
    for line, cells in rows():
        lines.append(line)
        for kind, cell in zip(kinds, cells, strict=True):
            kind.see(line, cell, number_of(cell), missing)
    if not lines:
        raise DataError.at(path, "there are no rows below the header")
    arrays: list[Array] = [
        np.full(len(lines), math.nan) if kind.numeric else np.full(len(lines), None, dtype=object) for kind in kinds
    ]
    words: dict[str, str] = {}
    for row, (_, cells) in enumerate(rows()):
        for array, cell in zip(arrays, cells, strict=True):
            if array.dtype != object:
                value = number_of(cell)
                array[row] = math.nan if value is None else value
            elif cell is not None:
                # A label is in thousands of rows: one string for all of them.
                text = cell if isinstance(cell, str) else label(cell)
                array[row] = words.setdefault(text, text)
    mixed = {name: kind.text for name, kind in zip(names, kinds, strict=True) if kind.numbers and kind.text}
    return Table(path, digest, np.asarray(lines), dict(zip(names, arrays, strict=True)), mixed)


def number(cell: Cell) -> float | None:
    """Return a cell's number, or None. Infinity is one, so that it is refused as such; "1_000" and "nan" are none."""
    if not isinstance(cell, str):
        return cell
    if "_" in cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if math.isnan(value) else value
