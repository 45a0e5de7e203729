"""Profiles of data: how often each feature's values lie in which bin, or are which category."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from dovetail.monitor.columns import Array, DriftError, columns_of, length
from dovetail.storage.atomic import write_atomic

Counts = npt.NDArray[np.int64]
Category = bool | int | str

_FORMAT: Final = 1
_BLOCK: Final = 64  # columns that are copied and sorted at a time
_MOST_CATEGORIES: Final = 1000


@frozen(eq=False)
class NumericFeatures:
    """Features whose values are numbers, with their bins.

    A bin holds an edge and what is from there up to the next. Before the first bin is one for what is below, after the
    last one for what is above, and one more for NaN. Where many values are the same number, that has a bin of its own.
    """

    names: tuple[str, ...]
    #: ``[features, edges]``, rising, in the precision of the data: float32 or float64.
    edges: Array
    #: ``[features, edges + 2]``.
    counts: Counts


@frozen(eq=False)
class CategoricalFeature:
    """A feature whose values are names or numbers of something."""

    #: The most frequent of them, at most 1,000.
    categories: tuple[Category, ...]
    #: One for each, one for any other, and one for values that are missing.
    counts: Counts


@frozen(eq=False)
class Profile:
    """How the values of some features are distributed.

    :meth:`build` makes the profile of a reference, and its :meth:`of` that of other data in the same bins.
    Data are an array or tensor ``[rows, features]``, a DataFrame, or a mapping of names to columns, which may have
    different lengths; an array ``[rows, …]`` in it is many columns, ``name[3]`` or ``name[0,2]``. A column of text,
    of objects or of booleans is categorical, any other numeric unless said.
    """

    #: Of the longest column.
    rows: int
    numeric: NumericFeatures
    categorical: Mapping[str, CategoricalFeature]

    @classmethod
    def build(
        cls, data: Any, *, names: Sequence[str] | None = None, categorical: Iterable[str] = (), bins: int = 10
    ) -> Self:
        """Return the profile of reference data, with bins that hold equally many of its rows.

        Args:
            data: the rows.
            names: of the columns of an array; ``"0"``, ``"1"`` … unless given.
            categorical: the names of columns of numbers that are categories.
            bins: bins between the smallest and the largest value of a numeric feature.

        Raises:
            DriftError: there are no rows or no features, or ``categorical`` names one that is not there.
        """
        if bins < 1:
            raise DriftError(f"bins must be at least 1, got {bins}")
        columns = columns_of(data, names)
        named = set(categorical)
        if missing := named - columns.keys():
            raise DriftError(f"there is no column {', '.join(sorted(map(repr, missing)))} to be categorical")
        numbers = {name: one for name, one in columns.items() if name not in named and one.dtype.kind in "iuf"}
        single = all(one.dtype == np.float32 for one in numbers.values())
        edges = np.zeros((len(numbers), bins + 1), np.float32 if single else np.float64)
        for place, column in enumerate(_sorted(list(numbers.values()), edges.dtype)):
            edges[place] = _edges(column, bins)
        counts = _counts(list(numbers.values()), edges)
        groups = {name: _categories(one) for name, one in columns.items() if name not in numbers}
        return cls(length(columns), NumericFeatures(tuple(numbers), edges, counts), groups)

    def of(self, data: Any) -> Self:
        """Return the profile of other data, in the bins and categories of this one.

        Args:
            data: the rows; columns that this profile does not know are left out. An array has this profile's columns in
                their order, numeric ones first.

        Raises:
            DriftError: there are no rows, or a column is missing.
        """
        columns = columns_of(data, self.names)
        if missing := [name for name in self.names if name not in columns]:
            raise DriftError(f"there is no column {', '.join(map(repr, missing[:5]))}, which the reference has")
        numeric = self.numeric
        for name in numeric.names:
            if columns[name].dtype.kind not in "iufb":
                raise DriftError(f"column {name!r} is {columns[name].dtype}; in the reference it holds numbers")
        counts = _counts([columns[name] for name in numeric.names], numeric.edges)
        groups = {name: _counted(columns[name], one) for name, one in self.categorical.items()}
        return evolve(self, rows=length(columns), numeric=evolve(numeric, counts=counts), categorical=groups)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all features, numeric ones first."""
        return (*self.numeric.names, *self.categorical)

    def __add__(self, other: Profile) -> Profile:
        """Return the profile of both data together; DriftError where the bins are not the same."""
        self.check_like(other)
        groups = {
            name: evolve(one, counts=one.counts + other.categorical[name].counts)
            for name, one in self.categorical.items()
        }
        numeric = evolve(self.numeric, counts=self.numeric.counts + other.numeric.counts)
        return Profile(self.rows + other.rows, numeric, groups)

    def check_like(self, other: Profile) -> None:
        """Raise DriftError unless ``other`` has the same features, bins and categories."""
        same = (
            self.names == other.names
            and np.array_equal(self.numeric.edges, other.numeric.edges)
            and all(one.categories == other.categorical[name].categories for name, one in self.categorical.items())
        )
        if not same:
            raise DriftError("the profiles have different features or bins: make the second with reference.of(data)")

    # --- on the disk ------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write the profile as JSON, whole or not at all."""
        numeric = self.numeric
        features = [
            {"name": name, "edges": edges, "counts": counts}
            for name, edges, counts in zip(numeric.names, numeric.edges.tolist(), numeric.counts.tolist(), strict=True)
        ]
        groups = [
            {"name": name, "categories": list(one.categories), "counts": one.counts.tolist()}
            for name, one in self.categorical.items()
        ]
        kept = {
            "format": _FORMAT,
            "rows": self.rows,
            "dtype": str(numeric.edges.dtype),
            "numeric": features,
            "categorical": groups,
        }
        write_atomic(Path(path), (json.dumps(kept, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a profile that :meth:`save` wrote.

        Raises:
            DriftError: it is none; the message names the file.
            OSError: it cannot be read.
        """
        try:
            kept = json.loads(Path(path).read_text(encoding="utf-8"))
            _check_format(kept["format"], path)
            dtype = np.dtype({"float32": "f4", "float64": "f8"}[kept["dtype"]])
            edges = np.array([one["edges"] for one in kept["numeric"]], dtype).reshape(len(kept["numeric"]), -1)
            counts = np.array([one["counts"] for one in kept["numeric"]], np.int64).reshape(len(edges), -1)
            groups = {
                str(one["name"]): CategoricalFeature(tuple(one["categories"]), np.array(one["counts"], np.int64))
                for one in kept["categorical"]
            }
            names = tuple(str(one["name"]) for one in kept["numeric"])
            profile = cls(int(kept["rows"]), NumericFeatures(names, edges, counts), groups)
            profile._check()
        except DriftError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DriftError(f"{path} is no profile: {type(error).__name__}: {error}") from error
        return profile

    def _check(self) -> None:
        edges, counts = self.numeric.edges, self.numeric.counts
        every = [counts, *(one.counts[None] for one in self.categorical.values())]
        fits = (
            (not len(edges) or counts.shape[1] == edges.shape[1] + 2)
            and bool(np.isfinite(edges).all())
            and bool((np.diff(edges, axis=1) >= 0).all())
            and all(len(one.counts) == len(one.categories) + 2 for one in self.categorical.values())
            and all((one >= 0).all() and (one.sum(1) > 0).all() for one in every)
        )
        if not fits:
            raise ValueError("bins and counts do not fit together")


def _check_format(found: object, path: Path | str) -> None:
    if found != _FORMAT:
        raise DriftError(f"{path} has format {found!r}, this Dovetail reads {_FORMAT}")


# --- numbers ----------------------------------------------------------------------------------------------------------


def _sorted(columns: Sequence[Array], dtype: np.dtype[Any]) -> Iterable[Array]:
    """Yield each column sorted, NaN last."""
    for start in range(0, len(columns), _BLOCK):
        block = np.array(columns[start : start + _BLOCK], dtype)
        block.sort(axis=1)
        yield from block


def _edges(column: Array, bins: int) -> Array:
    """Return the edges of bins that hold equally many of the finite values of a sorted column."""
    first, last = np.searchsorted(column, [-math.inf], side="right")[0], np.searchsorted(column, [math.inf])[0]
    finite = column[first:last]
    if not len(finite):
        return np.zeros(bins + 1, column.dtype)
    # Values of the column itself, not between two of them, so that nothing is rounded.
    edges: Array = finite[np.round(np.linspace(0, len(finite) - 1, bins + 1)).astype(np.int64)]
    with np.errstate(over="ignore"):
        above = np.nextafter(edges, np.array(np.inf, column.dtype))
    repeated = np.concatenate([[False], edges[1:] == edges[:-1]])
    repeated[-1] = True  # what is above begins above the largest
    return np.where(repeated & np.isfinite(above), above, edges)


def _counts(columns: Sequence[Array], edges: Array) -> Counts:
    """Count each column's values below its first edge, from each edge to the next, above the last, and NaN."""
    limits = np.concatenate([edges, np.full((len(edges), 1), np.nan, edges.dtype)], axis=1)
    places = np.zeros((len(edges), edges.shape[1] + 3), np.int64)
    for place, column in enumerate(_sorted(columns, edges.dtype)):
        places[place, 1:-1] = column.searchsorted(limits[place])
        places[place, -1] = len(column)
    return np.diff(places, axis=1)


# --- categories -------------------------------------------------------------------------------------------------------


def _tally(column: Array) -> tuple[dict[Category, int], int]:
    """Return how often each value is there, and how many are missing: None, or NaN."""
    if column.dtype.kind == "O":
        kept = [one for one in column.tolist() if one is not None and one == one]  # noqa: PLR0124 (NaN)
        found: dict[Category, int] = {}
        for one in kept:
            key = one if isinstance(one, bool | int | str) else str(one)
            found[key] = found.get(key, 0) + 1
        return found, len(column) - len(kept)
    present = column[~np.isnan(column)] if column.dtype.kind == "f" else column
    values, counts = np.unique(present, return_counts=True)
    whole = column.dtype.kind == "f"
    keys = [int(one) if whole and float(one).is_integer() else str(one) if whole else one for one in values.tolist()]
    return dict(zip(keys, counts.tolist(), strict=True)), len(column) - len(present)


def _categories(column: Array) -> CategoricalFeature:
    found, _ = _tally(column)
    most = sorted(found, key=lambda one: (-found[one], str(one)))[:_MOST_CATEGORIES]
    return _counted(column, CategoricalFeature(tuple(most), np.zeros(0, np.int64)))


def _counted(column: Array, like: CategoricalFeature) -> CategoricalFeature:
    found, missing = _tally(column)
    counts = [found.pop(one, 0) for one in like.categories]
    return evolve(like, counts=np.array([*counts, sum(found.values()), missing], np.int64))
