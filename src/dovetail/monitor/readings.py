"""Statistics of gradients on their way from the device: brought to the host together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from attrs import field, frozen

from dovetail.ops import GradNorms

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@frozen(eq=False)
class Rows:
    """What the rows of some statistics stand for."""

    #: The parameters' names.
    names: tuple[str, ...]
    #: How many elements each has, int64.
    sizes: Counts
    #: How many they all have.
    elements: int = field(init=False)

    @elements.default
    def _elements(self) -> int:
        return int(self.sizes.sum())


class Entry(NamedTuple):
    """Statistics that are still on the device."""

    found: GradNorms
    rows: Rows
    #: The number of the update, from 1.
    update: int


@frozen(eq=False)
class Measured:
    """The gradients of K updates in numbers, parameter by parameter."""

    rows: Rows
    #: The numbers of the updates, from 1.
    updates: tuple[int, ...]
    #: ``[K, 2 N + 5]``, a row an update as in ``GradNorms``.
    values: Numbers
    #: ``[K, 3 N + 26]``, likewise.
    counts: Counts

    def __len__(self) -> int:
        """K."""
        return len(self.updates)

    @property
    def norms(self) -> Numbers:
        """``[K, N]``."""
        return self.values[:, : len(self.rows.names)]

    @property
    def zeros(self) -> Counts:
        """``[K, N]``: how many elements are 0."""
        return self.counts[:, : len(self.rows.names)]

    @property
    def totals(self) -> Numbers:
        """``[K]``: of all gradients together."""
        return self.values[:, -5]

    @property
    def least(self) -> Numbers:
        """``[K]``: of the norms; NaN where one is."""
        return self.values[:, -3]

    @property
    def mean(self) -> Numbers:
        """``[K]``: of the norms; NaN where one is."""
        return self.values[:, -2]

    @property
    def most(self) -> Numbers:
        """``[K]``: of the norms; NaN where one is."""
        return self.values[:, -1]

    @property
    def histograms(self) -> Counts:
        """``[K, 26]``."""
        return self.counts[:, 3 * len(self.rows.names) :]

    @classmethod
    def joined(cls, several: Sequence[Measured]) -> Measured:
        """Return those of the same parameters as one."""
        if len(several) == 1:
            return several[0]
        return cls(
            several[0].rows,
            tuple(update for one in several for update in one.updates),
            np.concatenate([one.values for one in several]),
            np.concatenate([one.counts for one in several]),
        )

    def __getitem__(self, which: slice) -> Measured:
        """Return some of the updates."""
        return Measured(self.rows, self.updates[which], self.values[which], self.counts[which])


class Reading:
    """Statistics on their way to the host, all in two copies."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Start the copies; nothing waits for them."""
        self.entries: Final = list(entries)
        found = [one.found for one in entries]
        device = found[-1].values.device
        if device.type != "cpu":  # where those from a checkpoint are
            found = [GradNorms(one.values.to(device), one.counts.to(device)) for one in found]
        values = torch.cat([one.values for one in found])
        counts = torch.cat([one.counts for one in found])
        host = GradNorms(values, counts).to_host()
        self._values, self._counts = host.values, host.counts
        self._done: Any = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]  # torch has not typed it
        if self._done is not None:
            self._done.record()

    def arrived(self) -> bool:
        """Say whether the numbers are there."""
        return self._done is None or bool(self._done.query())

    def numbers(self) -> list[Measured]:
        """Return them, those of updates one after another together that are of the same parameters.

        This waits for those on their way.
        """
        if self._done is not None:
            self._done.synchronize()
        found, values, counts = [], self._values.numpy(), self._counts.numpy()
        for _, together in groupby(self.entries, lambda entry: entry.rows.names):
            those = list(together)
            updates, many = tuple(one.update for one in those), len(those)
            width, of_counts = many * len(those[0].found.values), many * len(those[0].found.counts)
            some, numbers = values[:width].reshape(many, -1), counts[:of_counts].reshape(many, -1)
            values, counts = values[width:], counts[of_counts:]
            found.append(Measured(those[0].rows, updates, some, numbers))
        return found


def kept(several: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return entries as a checkpoint keeps them."""
    return [
        {
            "values": one.found.values.cpu().clone(),
            "counts": one.found.counts.cpu().clone(),
            "names": list(one.rows.names),
            "sizes": one.rows.sizes.tolist(),
            "update": one.update,
        }
        for one in several
    ]


def entries(several: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Return the entries that :func:`kept` gave."""
    return [
        Entry(
            GradNorms(one["values"], one["counts"]),
            Rows(tuple(one["names"]), np.array(one["sizes"], np.int64)),
            one["update"],
        )
        for one in several
    ]
