"""Profiles of data: histograms of numeric features, and counts of categories."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from attrs import evolve, frozen

from dovetail.monitor.columns import (
    Array,
    Category,
    Counts,
    DriftError,
    bin_counts,
    category_counts,
    columns_of,
    longest,
    quantile_edges,
    top_categories,
)
from dovetail.storage.atomic import write_atomic

_FORMAT: Final = 1
_MOST_CATEGORIES: Final = 1000


@frozen(eq=False)
class NumericFeatures:
    """Numeric features, with their bins.

    A bin includes its lower edge and excludes its upper edge. Three more counts are for values below the first edge,
    values above the last edge, and NaN. A number that many values are equal to has its own bin.
    """

    names: tuple[str, ...]
    #: ``[features, edges]``, increasing, in the precision of the data: float32 or float64.
    edges: Array
    #: ``[features, edges + 2]``.
    counts: Counts


@frozen(eq=False)
class CategoricalFeature:
    """A categorical feature."""

    #: Its most frequent values, at most 1,000.
    categories: tuple[Category, ...]
    #: ``[categories + 2]``: one count per category, one for all other values, and one for missing values.
    counts: Counts


@frozen(eq=False)
class DataProfile:
    """The distribution of the values of each feature.

    :meth:`build` returns the profile of a reference, and its :meth:`of` the profile of other data in the same bins.
    Data are an array or tensor ``[rows, features]``, a DataFrame, or a mapping of names to columns, which may differ
    in length; an array ``[rows, …]`` in a mapping is one column per element, ``name[3]`` or ``name[0,2]``. A column of
    text, objects or booleans is categorical; any other is numeric unless ``categorical`` names it.
    """

    #: The number of rows of the longest column.
    rows: int
    numeric: NumericFeatures
    categorical: Mapping[str, CategoricalFeature]

    @classmethod
    def build(
        cls, data: Any, *, names: Sequence[str] | None = None, categorical: Iterable[str] = (), bins: int = 10
    ) -> Self:
        """Return the profile of reference data, in bins that hold equally many of its rows.

        Args:
            data: the rows.
            names: the names of an array's columns; by default ``"0"``, ``"1"`` ….
            categorical: the names of columns of numbers that are categorical.
            bins: bins between the smallest and the largest value of a numeric feature.

        Raises:
            DriftError: there are no rows or no features, or ``categorical`` names an unknown column.
        """
        if bins < 1:
            raise DriftError(f"bins must be at least 1, got {bins}")
        columns = columns_of(data, names)
        named = set(categorical)
        if missing := named - columns.keys():
            raise DriftError(f"there is no column {', '.join(sorted(map(repr, missing)))} to treat as categorical")
        numbers = {name: values for name, values in columns.items() if name not in named and values.dtype.kind in "iuf"}
        edges = quantile_edges(list(numbers.values()), bins)
        numeric = NumericFeatures(tuple(numbers), edges, bin_counts(list(numbers.values()), edges))
        groups = {}
        for name, values in columns.items():
            if name not in numbers:
                top = top_categories(values, _MOST_CATEGORIES)
                groups[name] = CategoricalFeature(top, category_counts(values, top))
        return cls(longest(columns), numeric, groups)

    def of(self, data: Any) -> Self:
        """Return the profile of other data, in the bins and categories of this one.

        Args:
            data: the rows; columns that this profile does not have are ignored. An array must have this profile's
                columns in their order, numeric ones first.

        Raises:
            DriftError: there are no rows, or a column is missing.
        """
        columns = columns_of(data, self.names)
        if missing := [name for name in self.names if name not in columns]:
            raise DriftError(f"there is no column {', '.join(map(repr, missing[:5]))}, which the reference has")
        numeric = self.numeric
        for name in numeric.names:
            if columns[name].dtype.kind not in "iufb":
                raise DriftError(f"column {name!r} is {columns[name].dtype}; in the reference it is numeric")
        counts = bin_counts([columns[name] for name in numeric.names], numeric.edges)
        groups = {
            name: evolve(feature, counts=category_counts(columns[name], feature.categories))
            for name, feature in self.categorical.items()
        }
        return evolve(self, rows=longest(columns), numeric=evolve(numeric, counts=counts), categorical=groups)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all features, numeric ones first."""
        return (*self.numeric.names, *self.categorical)

    def __add__(self, other: DataProfile) -> DataProfile:
        """Return the profile of both data together.

        Raises:
            DriftError: the profiles have different features, bins or categories.
        """
        self.check_like(other)
        groups = {
            name: evolve(feature, counts=feature.counts + other.categorical[name].counts)
            for name, feature in self.categorical.items()
        }
        numeric = evolve(self.numeric, counts=self.numeric.counts + other.numeric.counts)
        return DataProfile(self.rows + other.rows, numeric, groups)

    def check_like(self, other: DataProfile) -> None:
        """Raise DriftError unless ``other`` has the same features, bins and categories."""
        same = (
            self.names == other.names
            and np.array_equal(self.numeric.edges, other.numeric.edges)
            and all(
                feature.categories == other.categorical[name].categories for name, feature in self.categorical.items()
            )
        )
        if not same:
            raise DriftError("the profiles have different features or bins: build the second with reference.of(data)")

    # --- on disk ------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write the profile as JSON, atomically."""
        numeric = self.numeric
        features = [
            {"name": name, "edges": edges, "counts": counts}
            for name, edges, counts in zip(numeric.names, numeric.edges.tolist(), numeric.counts.tolist(), strict=True)
        ]
        groups = [
            {"name": name, "categories": list(feature.categories), "counts": feature.counts.tolist()}
            for name, feature in self.categorical.items()
        ]
        content = {
            "format": _FORMAT,
            "rows": self.rows,
            "dtype": str(numeric.edges.dtype),
            "numeric": features,
            "categorical": groups,
        }
        write_atomic(Path(path), (json.dumps(content, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a profile that :meth:`save` wrote.

        Raises:
            DriftError: the file is not a profile; the message names it.
            OSError: the file cannot be read.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            _check_format(content["format"], path)
            dtype, features = np.dtype({"float32": "f4", "float64": "f8"}[content["dtype"]]), content["numeric"]
            edges = np.array([feature["edges"] for feature in features], dtype).reshape(len(features), -1)
            counts = np.array([feature["counts"] for feature in features], np.int64).reshape(len(edges), -1)
            groups = {
                str(group["name"]): CategoricalFeature(tuple(group["categories"]), np.array(group["counts"], np.int64))
                for group in content["categorical"]
            }
            names = tuple(str(feature["name"]) for feature in features)
            profile = cls(int(content["rows"]), NumericFeatures(names, edges, counts), groups)
            profile._check()
        except DriftError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DriftError(f"{path} is not a profile: {type(error).__name__}: {error}") from error
        return profile

    def _check(self) -> None:
        edges, counts = self.numeric.edges, self.numeric.counts
        groups = self.categorical.values()
        every = [counts, *(group.counts[None] for group in groups)]
        fits = (
            (not len(edges) or counts.shape[1] == edges.shape[1] + 2)
            and bool(np.isfinite(edges).all())
            and bool((np.diff(edges, axis=1) >= 0).all())
            and all(len(group.counts) == len(group.categories) + 2 for group in groups)
            and all((rows >= 0).all() and (rows.sum(1) > 0).all() for rows in every)
        )
        if not fits:
            raise ValueError("bins and counts do not match")


def _check_format(found: object, path: Path | str) -> None:
    if found != _FORMAT:
        raise DriftError(f"{path} has format {found!r}, but this version reads {_FORMAT}")
