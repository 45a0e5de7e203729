"""Samples that belong together, such as the windows of one recording, and how a split keeps them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from attrs import frozen

from dovetail.data.address import Keys
from dovetail.data.errors import DataError, count
from dovetail.data.samples import Indices

if TYPE_CHECKING:
    import numpy.typing as npt

#: What a split draws: single samples, whole groups, or stretches of each group's time.
Unit = Literal["sample", "group", "time"]

_HAIR = 1e-9  # spans and shares are floating-point numbers


@frozen(eq=False)
class Groups:
    """Which samples belong together."""

    #: ``[samples]``: the number of each sample's group, from 0.
    of: npt.NDArray[np.int64]
    #: The groups' names.
    names: tuple[str, ...]
    #: ``[samples, 2]``: where in its group each sample begins and ends, in a unit of the dataset's own.
    spans: npt.NDArray[np.float64] | None

    @classmethod
    def read(cls, dataset: Any) -> Self | None:
        """Return what the dataset tells about groups in its ``groups`` and ``spans``, or None.

        Raises:
            DataError: it tells them for another number of samples.
        """
        groups, spans = getattr(dataset, "groups", None), getattr(dataset, "spans", None)
        if groups is None:
            return None
        names, numbers = np.unique(np.asarray(groups), return_inverse=True)
        spans = None if spans is None else np.asarray(spans, dtype=np.float64)
        if numbers.shape != (len(dataset),) or (spans is not None and spans.shape != (len(dataset), 2)):
            raise DataError(f"the dataset tells groups or spans that do not fit its {count(len(dataset), 'sample')}")
        return cls(numbers.astype(np.int64), tuple(map(str, names)), spans)

    def refuse_divided(self, parts: Mapping[Any, Indices], by: str) -> None:
        """Raise DataError where samples of one group are in several of ``parts``."""
        first: dict[int, str] = {}
        for name, rows in parts.items():
            for group in np.unique(self.of[rows]).tolist():
                if first.setdefault(group, name) != name:
                    raise DataError(
                        f"split.by = '{by}' puts samples of '{self.names[group]}' into {first[group]} and into {name}: "
                        f"the test would measure memory. Split by what is the same for all of a group, or say "
                        f'unit = "sample" to divide groups all the same'
                    )

    def representatives(self, pool: Indices) -> Indices:
        """Return the first sample of each group in ``pool``."""
        return pool[np.unique(self.of[pool], return_index=True)[1]]

    def refuse_mixed(self, values: npt.NDArray[Any], pool: Indices, what: str) -> None:
        """Raise DataError where a group has several of the values by which groups are to be told apart."""
        first = np.full(len(self.names), -1)
        first[self.of[pool[::-1]]] = pool[::-1]
        mixed = pool[values[pool] != values[first[self.of[pool]]]]
        if len(mixed):
            group = self.names[self.of[mixed[0]]]
            raise DataError(f"cannot stratify groups by {what}: '{group}' has several values of it")

    def keys(self, keys: Keys) -> Keys:
        """Return a key for each sample that is the same for all of a group, whatever the order of the samples."""
        least = np.full(len(self.names), np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(least, self.of, keys)
        return least[self.of]

    def members(self, representatives: Indices, pool: Indices) -> Indices:
        """Return the samples in ``pool`` of the representatives' groups, in the pool's order."""
        return pool[np.isin(self.of[pool], self.of[representatives])]

    def cut(self, pool: Indices, shares: Sequence[float], gap: float) -> list[Indices]:
        """Cut the time of each group into successive parts, and return the samples that lie whole in each.

        Samples on a border, or less than ``gap`` from the next part, are in none of them.

        Args:
            pool: the samples.
            shares: of each group's time, adding up to 1.
            gap: time between two parts that belongs to neither, in the unit of ``spans``.

        Raises:
            DataError: the dataset does not tell when its samples begin and end.
        """
        if self.spans is None:
            raise DataError('split.unit = "time": this dataset does not tell when its samples begin and end')
        begins, ends, of = self.spans[pool, 0], self.spans[pool, 1], self.of[pool]
        start, stop = np.full(len(self.names), np.inf), np.full(len(self.names), -np.inf)
        np.minimum.at(start, of, begins)
        np.maximum.at(stop, of, ends)
        edges = np.concatenate([[0.0], np.cumsum(shares)])
        parts = []
        for number in range(len(shares)):
            low = start[of] + edges[number] * (stop - start)[of] + (gap / 2 if number else 0.0)
            high = start[of] + edges[number + 1] * (stop - start)[of] - (gap / 2 if number + 1 < len(shares) else 0.0)
            parts.append(pool[(begins >= low - _HAIR) & (ends <= high + _HAIR)])
        return parts
