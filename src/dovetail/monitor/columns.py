"""Data as columns: arrays, tensors, DataFrames and mappings, all read the same way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class DriftError(ValueError):
    """Data or a profile that drift cannot be measured of."""


def columns_of(data: Any, names: Sequence[str] | None) -> dict[str, Array]:
    """Return the columns of ``data`` by name, each one row by row.

    Args:
        data: an array or tensor ``[rows, features]``, a DataFrame, or a mapping of names to columns.
        names: of the columns of an array; their numbers unless given.

    Raises:
        DriftError: there are no rows or no features, or a column is neither numbers nor names.
    """
    if isinstance(data, Mapping) or hasattr(data, "columns"):
        keys = list(data.columns) if hasattr(data, "columns") else list(data)
        columns: dict[str, Array] = {}
        for key in keys:
            columns |= _spread(str(key), _plain(data[key]))
    else:
        matrix = _plain(data)
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
            raise DriftError(f"column {name!r} is no column of numbers or names: {column.dtype} {list(column.shape)}")
    if not columns:
        raise DriftError("there are no features")
    if empty := [name for name, one in columns.items() if not len(one)]:
        raise DriftError(f"there are no rows in column {', '.join(map(repr, empty[:5]))}")
    return columns


def _spread(name: str, column: Array) -> dict[str, Array]:
    """Return a column, or each of the columns that an array ``[rows, …]`` has in place of one."""
    if column.ndim <= 1:
        return {name: column}
    flat = column.reshape(len(column), math.prod(column.shape[1:]))
    places = (",".join(map(str, place)) for place in np.ndindex(column.shape[1:]))
    return {f"{name}[{place}]": flat[:, number] for number, place in enumerate(places)}


def _plain(data: Any) -> Array:
    """Return an array of numbers numpy can sort, or of objects."""
    if hasattr(data, "detach"):
        data = data.detach().cpu()
        data = (data if data.dtype.itemsize > 2 or not data.is_floating_point() else data.float()).numpy()  # noqa: PLR2004
    array = np.asarray(data)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def length(columns: Mapping[str, Array]) -> int:
    """Return the number of rows of the longest column."""
    return max(len(one) for one in columns.values())
