"""Readers of text files: CSV and JSON Lines into tables, and plain numbers. Errors name the file and the line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from dovetail.data.columns import MISSING_WORDS, Array, Cell, Row, Table, build_table, number
from dovetail.data.errors import DataError, existing_file

_MAX_BYTES: Final = 1 << 30  # of a text file; reading holds it in memory about twice


def read_text_with_digest(path: Path, *, advice: str = "") -> tuple[str, str]:
    """Return a UTF-8 file's text, without a byte order mark, and the SHA-256 of the file.

    Args:
        path: the file.
        advice: follows the message that the file is too large.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file is larger than 1 GiB or not UTF-8.
    """
    path = existing_file(path)
    if path.stat().st_size > _MAX_BYTES:
        raise DataError.at(path, f"the file is larger than 1 GiB{advice}")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"this is not UTF-8 (byte 0x{raw[error.start]:02x}); save the file as UTF-8"
        raise DataError.at(path, message, line=line) from None
    return text, hashlib.sha256(raw).hexdigest()


def _read_table_text(path: Path) -> tuple[str, str]:
    text, digest = read_text_with_digest(path, advice="; save its arrays as .npz, which is read without parsing")
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise DataError.at(path, "there is a NUL character here, which no text file contains", line=line)
    return text, digest


# --- CSV --------------------------------------------------------------------------------------------------------------


def read_csv(path: Path, *, delimiter: str = ",") -> Table:
    """Read a CSV file whose first row names the columns. Blank lines are skipped.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file is empty, not UTF-8 or larger than 1 GiB; rows differ in length; there is a NUL character
            or an unclosed quote; or a column has no name or another column's name.
    """
    path = path.expanduser()
    text, digest = _read_table_text(path)
    line, header = next(_csv_rows(path, text, delimiter), (1, None))
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
        rows = _csv_rows(path, text, delimiter)
        next(rows)
        for line, cells in rows:
            if len(cells) != len(names):
                found = f"expected {len(names)} fields as in the header, found {len(cells)}"
                raise DataError.at(path, found, line=line)
            yield line, [cell.strip() or None for cell in cells]

    return build_table(path, digest, names, body, number_of=number, missing=MISSING_WORDS)


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit()
    messages = {
        "unexpected end of data": "a quote that opens in this row is never closed",
        f"field larger than field limit ({limit})": (
            f"a field has more than {limit:,} characters; perhaps a quote is never closed"
        ),
    }
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError.at(path, messages.get(str(error), str(error)), line=line) from error
        if cells:
            yield line, cells


def read_numbers(path: Path) -> Array:
    """Read a CSV file of numbers without a header.

    Returns:
        ``[rows, columns]``, or ``[rows]`` if there is one column.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: as :func:`read_csv`, or a cell is not a number.
    """
    path = path.expanduser()
    text, _ = _read_table_text(path)
    rows: list[list[float]] = []
    for line, cells in _csv_rows(path, text, ","):
        if rows and len(cells) != len(rows[0]):
            raise DataError.at(
                path, f"expected {len(rows[0])} fields as in the first row, found {len(cells)}", line=line
            )
        values = [number(cell) for cell in cells]
        if None in values:
            raise DataError.at(path, f"'{cells[values.index(None)]}' is not a number", line=line)
        rows.append([value for value in values if value is not None])
    if not rows:
        raise DataError.at(path, "the file is empty")
    array = np.asarray(rows)
    return array[:, 0] if array.shape[1] == 1 else array


# --- JSON Lines -------------------------------------------------------------------------------------------------------


def read_jsonl(path: Path) -> Table:
    """Read a file with a JSON object on each line; the keys are the columns. Blank lines are skipped.

    Raises:
        FileNotFoundError: the file does not exist.
        DataError: the file is empty, not UTF-8 or larger than 1 GiB, or a line is not a JSON object or repeats a key.
    """
    path = path.expanduser()
    text, digest = _read_table_text(path)
    lines = [(line, row) for line, row in enumerate(text.split("\n"), start=1) if row.strip()]
    if not lines:
        raise DataError.at(path, "the file is empty")
    # A dict keeps the keys in the order of their first appearance.
    names = list(dict.fromkeys(key for line, row in lines for key in _json_object(path, line, row)))

    def body() -> Iterator[Row]:
        for line, row in lines:
            found = _json_object(path, line, row)
            yield line, [_json_cell(found.get(name)) for name in names]

    # Text in quotes is text, even if it looks like a number or a missing value.
    return build_table(path, digest, names, body, number_of=_json_number, missing=frozenset())


def _json_number(cell: Cell) -> float | None:
    return None if isinstance(cell, str) else cell


def _json_object(path: Path, line: int, row: str) -> dict[str, Any]:
    try:
        found = json.loads(row, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DataError.at(path, f"this is not JSON: {error.msg} at character {error.colno}", line=line) from error
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise DataError.at(path, f"this JSON cannot be read: {why}", line=line) from error
    if not isinstance(found, dict):
        raise DataError.at(path, 'a JSON object is needed on each line, as in {"label": 1}', line=line)
    return found


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' appears twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number; write null for a missing value")


def _json_cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value or None
    if not isinstance(value, int | float):
        return json.dumps(value)
    try:
        # An integer that float64 cannot hold stays one, so that as a label it differs from its neighbours.
        return float(value) if float(value) == value else value
    except OverflowError:
        return json.dumps(str(value)[:20])
