"""Norms of gradients: brought to the host together, and added up there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs
import numpy as np
import numpy.typing as npt
import torch
from attrs import define, field, frozen
from torch import Tensor

from dovetail.ops import HISTOGRAM_EDGES, GradNorms

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_COURSES: Final = ("mean", "max", "min", "total")


@frozen(eq=False)
class Rows:
    """What the rows of some statistics stand for."""

    #: The parameters' names.
    names: tuple[str, ...]
    #: How many elements each has, int64.
    sizes: Counts


class Entry(NamedTuple):
    """Statistics that are still on the device."""

    found: GradNorms
    rows: Rows
    #: The number of the update, from 1.
    update: int


@frozen(eq=False)
class Measured:
    """The gradients of one update in numbers, parameter by parameter."""

    rows: Rows
    update: int
    norms: Numbers
    zeros: Counts
    #: Of all gradients together.
    total: float
    histogram: Counts


class Reading:
    """Statistics on their way to the host, all in two copies."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Start the copies; nothing waits for them."""
        self.entries: Final = list(entries)
        device = entries[-1].found.values.device  # those from a checkpoint are on the CPU
        values = torch.cat([one.found.values.to(device) for one in entries])
        counts = torch.cat([one.found.counts.to(device) for one in entries])
        host = GradNorms(values, counts).to_host()
        self._values, self._counts = host.values, host.counts
        self._done: Any = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]  # torch has not typed it
        if self._done is not None:
            self._done.record()

    def arrived(self) -> bool:
        """Say whether the numbers are there."""
        return self._done is None or bool(self._done.query())

    def numbers(self) -> list[Measured]:
        """Return them, update by update, waiting for those on their way."""
        if self._done is not None:
            self._done.synchronize()
        found, values, counts = [], self._values, self._counts
        for entry in self.entries:
            lengths = len(entry.found.values), len(entry.found.counts)
            one = GradNorms(values[: lengths[0]], counts[: lengths[1]])
            values, counts = values[lengths[0] :], counts[lengths[1] :]
            norms, zeros, histogram = one.norms.numpy(), one.zeros.numpy(), one.histogram.numpy()
            found.append(Measured(entry.rows, entry.update, norms, zeros, float(one.total), histogram))
        return found


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

    def add(self, one: Measured) -> None:
        """Take one update in."""
        finite = np.isfinite(one.norms)
        norms = np.where(finite, one.norms, 0.0)
        self.count = self.count + finite
        self.total = self.total + norms
        self.highest = np.maximum(self.highest, norms)
        self.recent = np.maximum(self.recent, norms)
        self.last, self.zeros, self.looks = one.norms.copy(), self.zeros + one.zeros, self.looks + 1


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


class Norms:
    """Adds up the norms of one update after another."""

    def __init__(self, history: int) -> None:
        """Keep the norms of the last ``history`` updates."""
        self._courses = {name: deque[float](maxlen=history) for name in _COURSES}
        self._layers: dict[tuple[str, ...], _Layers] = {}
        self._window = _Window()
        #: Updates so far.
        self.count = 0
        #: How many norms were in each bin of :data:`~dovetail.ops.HISTOGRAM_EDGES`.
        self.histogram: Counts = np.zeros(len(HISTOGRAM_EDGES) + 1, np.int64)

    @property
    def fresh(self) -> bool:
        """Whether there is anything since figures were last taken."""
        return self._window.updates > 0

    def add(self, one: Measured, *, distribution: bool = True) -> None:
        """Take the gradients of an update in; with ``distribution`` their histogram too."""
        mean, most, least = float(one.norms.mean()), float(one.norms.max()), float(one.norms.min())
        for name, value in zip(_COURSES, (mean, most, least, one.total), strict=True):
            self._courses[name].append(value)
        layers = self._layers.get(one.rows.names)
        if layers is None:
            layers = self._layers[one.rows.names] = _Layers.empty(one.rows.sizes)
        layers.add(one)
        self.count += 1
        if distribution:
            self.histogram = self.histogram + one.histogram
        window = self._window
        window.updates += 1
        if not math.isfinite(one.total):
            window.faults += 1
            return
        window.mean += mean
        window.least, window.most = min(window.least, least), max(window.most, most)
        window.total = max(window.total, one.total)
        window.zeros += int(one.zeros.sum())
        window.elements += int(one.rows.sizes.sum())

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return figures of the updates since the last call, and the largest norm of each parameter in them."""
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
        return {**courses, "check_count": self.count, "layers": layers}

    def state_dict(self) -> dict[str, Any]:
        """Return everything, numbers of many in tensors."""
        window = self._window
        return {
            "courses": {name: torch.tensor(list(one), dtype=torch.float64) for name, one in self._courses.items()},
            "count": self.count,
            "histogram": torch.from_numpy(self.histogram.copy()),
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
        self.count, self._window = state["count"], _Window(*state["window"])
        self.histogram = state["histogram"].numpy().copy()
        self._layers = {
            tuple(one["names"]): _Layers(looks=one["looks"], **{name: _array(one[name]) for name in _ARRAYS})
            for one in state["layers"]
        }


_ARRAYS: Final = ("sizes", "count", "total", "highest", "last", "zeros", "recent")


def _array(tensor: Tensor) -> Any:
    return tensor.numpy().copy()
