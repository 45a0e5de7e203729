"""Data as columns, from arrays, tensors, DataFrames and mappings; and how often each value occurs in a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Category = bool | int | str

_BLOCK: Final = 64  # columns that are copied and sorted at a time


class DriftError(ValueError):
    """Drift cannot be measured on this data or profile."""


def columns_of(data: Any, names: Sequence[str] | None) -> dict[str, Array]:
    """Return the columns of ``data`` by name.

    Args:
        data: an array or tensor ``[rows, features]``, a DataFrame, or a mapping of names to columns.
        names: the names of an array's columns; by default ``"0"``, ``"1"`` ….

    Raises:
        DriftError: there are no rows or no features, or a column contains neither numbers nor names.
    """
    if isinstance(data, Mapping) or hasattr(data, "columns"):
        keys = list(data.columns) if hasattr(data, "columns") else list(data)
        columns: dict[str, Array] = {}
        for key in keys:
            columns |= _spread(str(key), _as_array(data[key]))
    else:
        matrix = _as_array(data)
        if matrix.ndim != 2:  # noqa: PLR2004 (rows and features)
            raise DriftError(f"data must be [rows, features], got shape {list(matrix.shape)}")
        names = [str(place) for place in range(matrix.shape[1])] if names is None else list(names)
        if len(names) != matrix.shape[1]:
            raise DriftError(f"there are {len(names)} names for {matrix.shape[1]} columns")
        columns = {name: matrix[:, place] for place, name in enumerate(names)}
        if len(columns) < len(names):
            raise DriftError("two columns have the same name")
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "biufOUST":
            raise DriftError(f"column {name!r} contains neither numbers nor names: {column.dtype} {list(column.shape)}")
    if not columns:
        raise DriftError("there are no features")
    if empty := [name for name, column in columns.items() if not len(column)]:
        raise DriftError(f"there are no rows in column {', '.join(map(repr, empty[:5]))}")
    return columns


def _spread(name: str, column: Array) -> dict[str, Array]:
    """Return a column, or an array ``[rows, …]`` as one column per element of a row."""
    if column.ndim <= 1:
        return {name: column}
    flat = column.reshape(len(column), math.prod(column.shape[1:]))
    places = (",".join(map(str, place)) for place in np.ndindex(column.shape[1:]))
    return {f"{name}[{place}]": flat[:, number] for number, place in enumerate(places)}


def _as_array(data: Any) -> Array:
    """Return an array of objects, or of numbers that NumPy can sort."""
    if hasattr(data, "detach"):
        data = data.detach().cpu()
        data = (data if data.dtype.itemsize > 2 or not data.is_floating_point() else data.float()).numpy()  # noqa: PLR2004
    array = np.asarray(data)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def longest(columns: Mapping[str, Array]) -> int:
    """Return the number of rows of the longest column."""
    return max(map(len, columns.values()))


# --- numbers ----------------------------------------------------------------------------------------------------------


def quantile_edges(columns: Sequence[Array], bins: int) -> Array:
    """Return edges of bins that hold equally many of the finite values of each column.

    Returns:
        ``[columns, bins + 1]``: float32 if every column is, else float64.
    """
    single = all(column.dtype == np.float32 for column in columns)
    edges = np.zeros((len(columns), bins + 1), np.float32 if single else np.float64)
    for place, column in enumerate(_sorted(columns, edges.dtype)):
        edges[place] = _edges(column, bins)
    return edges


def _sorted(columns: Sequence[Array], dtype: np.dtype[Any]) -> Iterable[Array]:
    """Yield each column sorted, NaN last."""
    for start in range(0, len(columns), _BLOCK):
        block = np.array(columns[start : start + _BLOCK], dtype)
        block.sort(axis=1)
        yield from block


def _edges(column: Array, bins: int) -> Array:
    """Return the edges for a sorted column."""
    first, last = np.searchsorted(column, [-math.inf], side="right")[0], np.searchsorted(column, [math.inf])[0]
    finite = column[first:last]
    if not len(finite):
        return np.zeros(bins + 1, column.dtype)
    # Values of the column itself, not between two of them, so that nothing is rounded.
    edges: Array = finite[np.round(np.linspace(0, len(finite) - 1, bins + 1)).astype(np.int64)]
    with np.errstate(over="ignore"):
        above = np.nextafter(edges, np.array(np.inf, column.dtype))
    repeated = np.concatenate([[False], edges[1:] == edges[:-1]])
    repeated[-1] = True  # the last bin includes the largest value
    return np.where(repeated & np.isfinite(above), above, edges)


def bin_counts(columns: Sequence[Array], edges: Array) -> Counts:
    """Return how many values of each column lie below its first edge, in each bin, above the last edge, and are NaN.

    Returns:
        ``[columns, edges + 2]``.
    """
    limits = np.concatenate([edges, np.full((len(edges), 1), np.nan, edges.dtype)], axis=1)
    places = np.zeros((len(edges), edges.shape[1] + 3), np.int64)
    for place, column in enumerate(_sorted(columns, edges.dtype)):
        places[place, 1:-1] = column.searchsorted(limits[place])
        places[place, -1] = len(column)
    return np.diff(places, axis=1)


# --- categories -------------------------------------------------------------------------------------------------------


def top_categories(column: Array, most: int) -> tuple[Category, ...]:
    """Return up to ``most`` of a column's values, the most frequent first."""
    found, _ = _tally(column)
    return tuple(sorted(found, key=lambda value: (-found[value], str(value)))[:most])


def category_counts(column: Array, categories: Sequence[Category]) -> Counts:
    """Return how many values of a column are each category, any other value, and missing: ``[categories + 2]``."""
    found, missing = _tally(column)
    counts = [found.pop(category, 0) for category in categories]
    return np.array([*counts, sum(found.values()), missing], np.int64)


def _tally(column: Array) -> tuple[dict[Category, int], int]:
    """Return how often each value occurs, and how many values are missing: None or NaN."""
    if column.dtype.kind == "O":
        present = [value for value in column.tolist() if value is not None and value == value]  # noqa: PLR0124 (NaN)
        found: dict[Category, int] = {}
        for value in present:
            key = value if isinstance(value, bool | int | str) else str(value)
            found[key] = found.get(key, 0) + 1
        return found, len(column) - len(present)
    is_float = column.dtype.kind == "f"
    valid = column[~np.isnan(column)] if is_float else column
    values, counts = np.unique(valid, return_counts=True)
    keys = [_category(value) for value in values.tolist()] if is_float else values.tolist()
    return dict(zip(keys, counts.tolist(), strict=True)), len(column) - len(valid)


def _category(value: float) -> Category:
    return int(value) if value.is_integer() else str(value)
