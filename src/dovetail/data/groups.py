"""Groups of samples that belong together, such as the windows of one recording, and splits that respect them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from attrs import frozen

from dovetail.data.errors import DataError, count
from dovetail.data.samples import Indices
from dovetail.data.seeding import Keys

if TYPE_CHECKING:
    import numpy.typing as npt

_TOLERANCE = 1e-9  # spans and fractions are floating-point numbers


@frozen(eq=False)
class Groups:
    """The group of each sample."""

    #: ``[samples]``: the number of each sample's group, from 0.
    of: npt.NDArray[np.int64]
    #: The groups' names.
    names: tuple[str, ...]
    #: ``[samples, 2]``: start and end of each sample within its group, in the dataset's own unit; None if unknown.
    spans: npt.NDArray[np.float64] | None

    @classmethod
    def read(cls, dataset: Any) -> Self | None:
        """Return the groups given by the dataset's ``groups`` and ``spans``, or None if it has no ``groups``.

        Raises:
            DataError: their length is not the number of samples.
        """
        groups, spans = getattr(dataset, "groups", None), getattr(dataset, "spans", None)
        if groups is None:
            return None
        names, numbers = np.unique(np.asarray(groups), return_inverse=True)
        spans = None if spans is None else np.asarray(spans, dtype=np.float64)
        if numbers.shape != (len(dataset),) or (spans is not None and spans.shape != (len(dataset), 2)):
            raise DataError(f"the dataset's groups or spans do not match its {count(len(dataset), 'sample')}")
        return cls(numbers.astype(np.int64), tuple(map(str, names)), spans)

    def check_undivided(self, parts: Mapping[Any, Indices], by: str) -> None:
        """Raise DataError if several of ``parts`` have samples of the same group."""
        first: dict[int, str] = {}
        for name, rows in parts.items():
            for group in np.unique(self.of[rows]).tolist():
                if first.setdefault(group, name) != name:
                    raise DataError(
                        f"split.by = '{by}' puts samples of '{self.names[group]}' into {first[group]} and into {name}, "
                        "so the test would measure memorisation. Split by a column that is constant within each group, "
                        'or set unit = "sample" to divide groups anyway'
                    )

    def representatives(self, pool: Indices) -> Indices:
        """Return the first sample of each group in ``pool``."""
        return pool[np.unique(self.of[pool], return_index=True)[1]]

    def check_uniform(self, values: npt.NDArray[Any], pool: Indices, what: str) -> None:
        """Raise DataError if a group in ``pool`` has more than one of ``values``, called ``what``."""
        first = np.full(len(self.names), -1)
        first[self.of[pool[::-1]]] = pool[::-1]
        mixed = pool[values[pool] != values[first[self.of[pool]]]]
        if len(mixed):
            group = self.names[self.of[mixed[0]]]
            raise DataError(f"cannot stratify groups by {what}: '{group}' has several values of it")

    def keys(self, keys: Keys) -> Keys:
        """Return a key for each sample that is equal within a group and does not depend on the order of samples."""
        least = np.full(len(self.names), np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(least, self.of, keys)
        return least[self.of]

    def members(self, representatives: Indices, pool: Indices) -> Indices:
        """Return the samples in ``pool`` of the representatives' groups, in the pool's order."""
        return pool[np.isin(self.of[pool], self.of[representatives])]

    def cut(self, pool: Indices, fractions: Sequence[float], gap: float) -> list[Indices]:
        """Cut the time of each group into successive parts, and return the samples that lie entirely in each.

        Samples on a border, or less than ``gap`` from the next part, are in no part.

        Args:
            pool: the samples.
            fractions: of each group's time, adding up to 1.
            gap: time between two parts that belongs to neither, in the unit of ``spans``.

        Raises:
            DataError: the dataset has no spans.
        """
        if self.spans is None:
            raise DataError('split.unit = "time": this dataset has no spans, which give the time of each sample')
        begins, ends, of = self.spans[pool, 0], self.spans[pool, 1], self.of[pool]
        start, stop = np.full(len(self.names), np.inf), np.full(len(self.names), -np.inf)
        np.minimum.at(start, of, begins)
        np.maximum.at(stop, of, ends)
        edges = np.concatenate([[0.0], np.cumsum(fractions)])
        parts, last = [], len(fractions) - 1
        for number in range(len(fractions)):
            low = start[of] + edges[number] * (stop - start)[of] + (gap / 2 if number else 0.0)
            high = start[of] + edges[number + 1] * (stop - start)[of] - (gap / 2 if number < last else 0.0)
            parts.append(pool[(begins >= low - _TOLERANCE) & (ends <= high + _TOLERANCE)])
        return parts
