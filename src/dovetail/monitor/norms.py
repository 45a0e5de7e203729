"""Norms of gradients, added up on the host."""

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
from torch import Tensor

from dovetail.monitor.readings import Counts, Measured, Numbers
from dovetail.ops import HISTOGRAM_EDGES

#: So many readings wait at most.
_MOST_WAITING: Final = 64
_COURSES: Final = ("mean", "max", "min", "total")


@define(eq=False)
class _Layers:
    """What was seen of some parameters together: their finite norms, and the zeros among their elements."""

    sizes: Counts
    count: Counts
    total: Numbers
    highest: Numbers
    last: Numbers
    zeros: Counts
    looks: int = 0
    #: The largest norms since figures were last taken.
    recent: Numbers = field(factory=lambda: np.zeros(0))

    @classmethod
    def empty(cls, sizes: Counts) -> _Layers:
        """Return what it is before the first look."""
        whole, real = np.zeros(len(sizes), np.int64), np.zeros(len(sizes))
        return cls(sizes, whole, real, real.copy(), real.copy(), whole.copy(), 0, real.copy())

    def add(self, some: Measured) -> None:
        """Take updates in."""
        finite = np.isfinite(some.norms)
        norms = np.where(finite, some.norms, 0.0)
        highest = norms.max(0)
        self.count = self.count + finite.sum(0)
        # One after another, so that it makes no difference which updates are taken in together.
        self.total = np.add.accumulate([self.total, *norms])[-1]
        self.highest = np.maximum(self.highest, highest)
        self.recent = np.maximum(self.recent, highest)
        self.last, self.zeros = some.norms[-1].copy(), self.zeros + some.zeros.sum(0)
        self.looks += len(some)


@define(eq=False)
class _Window:
    """What was seen since figures were last taken."""

    updates: int = 0
    #: Updates with a gradient that was no number; the figures below are without them.
    faults: int = 0
    mean: float = 0.0
    least: float = math.inf
    most: float = 0.0
    total: float = 0.0
    zeros: int = 0
    elements: int = 0

    def add(self, courses: Sequence[Sequence[float]], zeros: Sequence[int], elements: int) -> None:
        """Take updates in: the course of each figure of :data:`_COURSES`, and the zeros among so many elements."""
        for mean, most, least, total, none in zip(*courses, zeros, strict=True):
            self.updates += 1
            if not math.isfinite(total):
                self.faults += 1
                continue
            self.mean += mean
            self.least, self.most, self.total = min(self.least, least), max(self.most, most), max(self.total, total)
            self.zeros += none
            self.elements += elements


class Norms:
    """Adds up the norms of one update after another.

    Those that are taken in wait until there are many, or somebody asks: numpy takes hardly longer for a hundred updates
    than for one.
    """

    def __init__(self, history: int, *, distribution: bool = True) -> None:
        """Keep the norms of the last ``history`` updates; with ``distribution`` the histogram of all of them too."""
        self._courses = {name: deque[float](maxlen=history) for name in _COURSES}
        self._layers: dict[tuple[str, ...], _Layers] = {}
        self._window = _Window()
        self._waiting: list[Measured] = []
        self._distribution = distribution
        #: Updates so far.
        self.count = 0
        self._histogram: Counts = np.zeros(len(HISTOGRAM_EDGES) + 1, np.int64)

    @property
    def fresh(self) -> bool:
        """Whether there is anything since figures were last taken."""
        return bool(self._waiting) or self._window.updates > 0

    def add(self, some: Measured) -> None:
        """Take the gradients of updates in."""
        self._waiting.append(some)
        self.count += len(some)
        if len(self._waiting) >= _MOST_WAITING:
            self._settle()

    def _settle(self) -> None:
        """Add up what waits."""
        waiting, self._waiting = self._waiting, []
        for _, some in groupby(waiting, lambda one: one.rows.names):
            self._add(Measured.joined(list(some)))

    def _add(self, some: Measured) -> None:
        courses = [one.tolist() for one in (some.mean, some.most, some.least, some.totals)]
        for name, values in zip(_COURSES, courses, strict=True):
            self._courses[name].extend(values)
        layers = self._layers.get(some.rows.names)
        if layers is None:
            layers = self._layers[some.rows.names] = _Layers.empty(some.rows.sizes)
        layers.add(some)
        if self._distribution:
            self._histogram = self._histogram + some.histograms.sum(0)
        self._window.add(courses, some.zeros.sum(1).tolist(), some.rows.elements)

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return figures of the updates since the last call, and the largest norm of each parameter in them."""
        self._settle()
        window, self._window = self._window, _Window()
        figures: dict[str, float] = {"grad_nan_updates": window.faults}
        finite = window.updates - window.faults
        if finite:
            figures |= {
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
        return figures, largest

    def statistics(self) -> dict[str, Any]:
        """Return the course of the norms, and what was seen of each parameter."""
        self._settle()
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
        courses = {f"{name}_norm_history": list(values) for name, values in self._courses.items()}
        statistics: dict[str, Any] = {**courses, "check_count": self.count, "layers": layers}
        if self._distribution:
            statistics |= {"histogram": self._histogram.tolist(), "histogram_edges": list(HISTOGRAM_EDGES)}
        return statistics

    def state_dict(self) -> dict[str, Any]:
        """Return everything, numbers of many in tensors."""
        self._settle()
        window = self._window
        return {
            "courses": {name: torch.tensor(list(one), dtype=torch.float64) for name, one in self._courses.items()},
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
        """Go on from a saved state."""
        for name, one in state["courses"].items():
            self._courses[name].clear()
            self._courses[name].extend(one.tolist())
        self._waiting = []
        self.count, self._window = state["count"], _Window(*state["window"])
        self._histogram = state["histogram"].numpy().copy()
        self._layers = {
            tuple(one["names"]): _Layers(looks=one["looks"], **{name: _array(one[name]) for name in _ARRAYS})
            for one in state["layers"]
        }


_ARRAYS: Final = ("sizes", "count", "total", "highest", "last", "zeros", "recent")


def _array(tensor: Tensor) -> Any:
    return tensor.numpy().copy()
