"""Gradient statistics on their way from the device to the host, many updates in one copy."""

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
class Parameters:
    """The parameters that the statistics of an update belong to."""

    #: The parameters' names.
    names: tuple[str, ...]
    #: ``[N]``: the number of elements of each.
    sizes: Counts
    #: The number of elements of all.
    elements: int = field(init=False)

    @elements.default
    def _count_elements(self) -> int:
        return int(self.sizes.sum())


class DeviceStatistics(NamedTuple):
    """The gradient statistics of one update, still on the device."""

    norms: GradNorms
    parameters: Parameters
    #: The number of the update, from 1.
    update: int


@frozen(eq=False)
class HostStatistics:
    """The gradient statistics of K updates of the same N parameters, on the host."""

    parameters: Parameters
    #: The numbers of the updates, from 1.
    updates: tuple[int, ...]
    #: ``[K, 2 N + 5]``: one row per update, as in ``GradNorms``.
    values: Numbers
    #: ``[K, 3 N + 26]``: one row per update, as in ``GradNorms``.
    counts: Counts

    def __len__(self) -> int:
        """Return the number of updates, K."""
        return len(self.updates)

    @property
    def norms(self) -> Numbers:
        """``[K, N]``: the norm of each parameter's gradient."""
        return self.values[:, : len(self.parameters.names)]

    @property
    def zeros(self) -> Counts:
        """``[K, N]``: the number of elements that are 0."""
        return self.counts[:, : len(self.parameters.names)]

    @property
    def total(self) -> Numbers:
        """``[K]``: the norm of all gradients together."""
        return self.values[:, -5]

    @property
    def min(self) -> Numbers:
        """``[K]``: the smallest norm; NaN if any norm is."""
        return self.values[:, -3]

    @property
    def mean(self) -> Numbers:
        """``[K]``: the mean of the norms; NaN if any norm is."""
        return self.values[:, -2]

    @property
    def max(self) -> Numbers:
        """``[K]``: the largest norm; NaN if any norm is."""
        return self.values[:, -1]

    @property
    def histograms(self) -> Counts:
        """``[K, 26]``: the histogram of the norms."""
        return self.counts[:, 3 * len(self.parameters.names) :]

    @classmethod
    def concatenate(cls, several: Sequence[HostStatistics]) -> HostStatistics:
        """Return statistics of the same parameters as one object."""
        if len(several) == 1:
            return several[0]
        return cls(
            several[0].parameters,
            tuple(update for statistics in several for update in statistics.updates),
            np.concatenate([statistics.values for statistics in several]),
            np.concatenate([statistics.counts for statistics in several]),
        )

    def __getitem__(self, which: slice) -> HostStatistics:
        """Return the statistics of some of the updates."""
        return HostStatistics(self.parameters, self.updates[which], self.values[which], self.counts[which])


class Transfer:
    """An asynchronous copy of statistics to the host, in two tensors."""

    def __init__(self, entries: Sequence[DeviceStatistics]) -> None:
        """Start the copies without waiting for them."""
        self.entries: Final = list(entries)
        norms = [entry.norms for entry in entries]
        device = norms[-1].values.device
        if device.type != "cpu":  # statistics from a checkpoint are on the CPU
            norms = [GradNorms(found.values.to(device), found.counts.to(device)) for found in norms]
        values = torch.cat([found.values for found in norms])
        counts = torch.cat([found.counts for found in norms])
        host = GradNorms(values, counts).to_host()
        self._values, self._counts = host.values, host.counts
        self._done: Any = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]  # untyped in torch
        if self._done is not None:
            self._done.record()

    def arrived(self) -> bool:
        """Return whether the copies are complete."""
        return self._done is None or bool(self._done.query())

    def wait(self) -> list[HostStatistics]:
        """Return the statistics; consecutive updates of the same parameters form one object. Waits for the copies."""
        if self._done is not None:
            self._done.synchronize()
        results, values, counts = [], self._values.numpy(), self._counts.numpy()
        for _, group in groupby(self.entries, lambda entry: entry.parameters.names):
            entries = list(group)
            updates, many = tuple(entry.update for entry in entries), len(entries)
            width, count_width = many * len(entries[0].norms.values), many * len(entries[0].norms.counts)
            rows, count_rows = values[:width].reshape(many, -1), counts[:count_width].reshape(many, -1)
            values, counts = values[width:], counts[count_width:]
            results.append(HostStatistics(entries[0].parameters, updates, rows, count_rows))
        return results


def to_state(entries: Sequence[DeviceStatistics]) -> list[dict[str, Any]]:
    """Return statistics as a checkpoint stores them."""
    return [
        {
            "values": entry.norms.values.cpu().clone(),
            "counts": entry.norms.counts.cpu().clone(),
            "names": list(entry.parameters.names),
            "sizes": entry.parameters.sizes.tolist(),
            "update": entry.update,
        }
        for entry in entries
    ]


def from_state(state: Sequence[Mapping[str, Any]]) -> list[DeviceStatistics]:
    """Return the statistics that :func:`to_state` stored."""
    return [
        DeviceStatistics(
            GradNorms(entry["values"], entry["counts"]),
            Parameters(tuple(entry["names"]), np.array(entry["sizes"], np.int64)),
            entry["update"],
        )
        for entry in state
    ]
