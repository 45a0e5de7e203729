"""Statistics of gradient norms, accumulated on the host."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import attrs
import numpy as np
import torch
from attrs import define, field

from dovetail.monitor.readings import Counts, HostStatistics, Numbers
from dovetail.ops import HISTOGRAM_EDGES

#: Statistics that are queued before they are added up.
_QUEUE_LENGTH: Final = 64
_SERIES: Final = ("mean", "max", "min", "total")
#: The fields of _Layers that a checkpoint stores as tensors.
_ARRAYS: Final = ("sizes", "count", "total", "highest", "last", "zeros", "recent")


@define(eq=False)
class _Layers:
    """Statistics of parameters that always appear together, one entry per parameter."""

    #: Number of elements.
    sizes: Counts
    #: Number of finite norms.
    count: Counts
    #: Sum of the finite norms.
    total: Numbers
    #: Largest finite norm.
    highest: Numbers
    #: Latest norm.
    last: Numbers
    #: Number of elements that were zero, over all updates.
    zeros: Counts
    #: Number of updates.
    looks: int = 0
    #: Largest finite norm since the last call of ``take``.
    recent: Numbers = field(factory=lambda: np.zeros(0))

    @classmethod
    def empty(cls, sizes: Counts) -> _Layers:
        """Return the statistics of no updates."""
        whole, real = np.zeros(len(sizes), np.int64), np.zeros(len(sizes))
        return cls(sizes, whole, real, real.copy(), real.copy(), whole.copy(), 0, real.copy())

    def add(self, some: HostStatistics) -> None:
        """Add updates."""
        finite = np.isfinite(some.norms)
        norms = np.where(finite, some.norms, 0.0)
        highest = norms.max(0)
        self.count = self.count + finite.sum(0)
        # Sequentially, so that the result does not depend on which updates are added together.
        self.total = np.add.accumulate([self.total, *norms])[-1]
        self.highest = np.maximum(self.highest, highest)
        self.recent = np.maximum(self.recent, highest)
        self.last, self.zeros = some.norms[-1].copy(), self.zeros + some.zeros.sum(0)
        self.looks += len(some)


@define(eq=False)
class _Window:
    """Statistics of the updates since the last call of ``take``."""

    updates: int = 0
    #: Updates with a NaN or infinite gradient; the fields below exclude them.
    faults: int = 0
    mean: float = 0.0
    least: float = math.inf
    most: float = 0.0
    total: float = 0.0
    zeros: int = 0
    elements: int = 0

    def add(self, series: Sequence[Sequence[float]], zeros: Sequence[int], elements: int) -> None:
        """Add updates: the series of :data:`_SERIES`, and the number of zeros among ``elements`` of each update."""
        for mean, most, least, total, none in zip(*series, zeros, strict=True):
            self.updates += 1
            if not math.isfinite(total):
                self.faults += 1
                continue
            self.mean += mean
            self.least, self.most, self.total = min(self.least, least), max(self.most, most), max(self.total, total)
            self.zeros += none
            self.elements += elements


class NormStatistics:
    """Accumulates the gradient statistics of updates.

    They are queued until there are many, or until a result is requested, because NumPy takes hardly longer for a
    hundred updates than for one.
    """

    def __init__(self, history: int, *, distribution: bool = True) -> None:
        """Keep the norms of the last ``history`` updates, and with ``distribution`` a histogram of all norms."""
        self._series = {name: deque[float](maxlen=history) for name in _SERIES}
        self._layers: dict[tuple[str, ...], _Layers] = {}
        self._window = _Window()
        self._queue: list[HostStatistics] = []
        self._distribution = distribution
        #: Number of updates so far.
        self.count = 0
        self._histogram: Counts = np.zeros(len(HISTOGRAM_EDGES) + 1, np.int64)

    @property
    def fresh(self) -> bool:
        """Whether there are updates since the last call of ``take``."""
        return bool(self._queue) or self._window.updates > 0

    def add(self, some: HostStatistics) -> None:
        """Add the statistics of updates."""
        self._queue.append(some)
        self.count += len(some)
        if len(self._queue) >= _QUEUE_LENGTH:
            self._flush()

    def _flush(self) -> None:
        """Add up the queue."""
        queue, self._queue = self._queue, []
        for _, some in groupby(queue, lambda statistics: statistics.parameters.names):
            self._add(HostStatistics.concatenate(list(some)))

    def _add(self, some: HostStatistics) -> None:
        series = [values.tolist() for values in (some.mean, some.max, some.min, some.total)]
        for name, values in zip(_SERIES, series, strict=True):
            self._series[name].extend(values)
        layers = self._layers.get(some.parameters.names)
        if layers is None:
            layers = self._layers[some.parameters.names] = _Layers.empty(some.parameters.sizes)
        layers.add(some)
        if self._distribution:
            self._histogram = self._histogram + some.histograms.sum(0)
        self._window.add(series, some.zeros.sum(1).tolist(), some.parameters.elements)

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the metrics of the updates since the last call, and the largest norm of each parameter in them."""
        self._flush()
        window, self._window = self._window, _Window()
        metrics: dict[str, float] = {"grad_nan_updates": window.faults}
        finite = window.updates - window.faults
        if finite:
            metrics |= {
                "grad_norm_mean": window.mean / finite,
                "grad_norm_min": window.least,
                "grad_norm_max": window.most,
                "grad_norm_total": window.total,
                "grad_zeros": window.zeros / max(1, window.elements),
            }
        largest: dict[str, float] = {}
        for names, layers in self._layers.items():
            for name, norm in zip(names, layers.recent.tolist(), strict=True):
                largest[name] = max(norm, largest.get(name, 0.0))
            layers.recent = np.zeros(len(names))
        return metrics, largest

    def statistics(self) -> dict[str, Any]:
        """Return the series of norms, and the statistics of each parameter; see ``GradientMonitor.get_statistics``."""
        self._flush()
        layers: dict[str, dict[str, float]] = {}
        for names, seen in self._layers.items():
            for place, name in enumerate(names):
                count, looks = int(seen.count[place]), seen.looks * int(seen.sizes[place])
                layers[name] = {
                    "mean": float(seen.total[place]) / count if count else math.nan,
                    "max": float(seen.highest[place]),
                    "last": float(seen.last[place]),
                    "zeros": int(seen.zeros[place]) / looks if looks else 0.0,
                }
        series = {f"{name}_norm_history": list(values) for name, values in self._series.items()}
        statistics: dict[str, Any] = {**series, "check_count": self.count, "layers": layers}
        if self._distribution:
            statistics |= {"histogram": self._histogram.tolist(), "histogram_edges": list(HISTOGRAM_EDGES)}
        return statistics

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics; arrays as tensors."""
        self._flush()
        window = self._window
        return {
            "courses": {name: torch.tensor(list(values), dtype=torch.float64) for name, values in self._series.items()},
            "count": self.count,
            "histogram": torch.from_numpy(self._histogram.copy()),
            "window": list(attrs.astuple(window)),
            "layers": [
                {
                    "names": list(names),
                    "looks": seen.looks,
                    **{name: torch.from_numpy(getattr(seen, name).copy()) for name in _ARRAYS},
                }
                for names, seen in self._layers.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        for name, values in state["courses"].items():
            self._series[name].clear()
            self._series[name].extend(values.tolist())
        self._queue = []
        self.count, self._window = state["count"], _Window(*state["window"])
        self._histogram = state["histogram"].numpy().copy()
        self._layers = {
            tuple(layers["names"]): _Layers(
                looks=layers["looks"], **{name: layers[name].numpy().copy() for name in _ARRAYS}
            )
            for layers in state["layers"]
        }
