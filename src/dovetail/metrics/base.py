"""The base class of all our metrics: sums of counts or of values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class SumMetric(ABC):
    """Sums tensors over batches, on the device that holds them.

    Sums of integers are exact, and the same for any order of batches; values are summed in double precision. Only
    ``compute`` syncs with the device.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    @abstractmethod
    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch."""

    @abstractmethod
    def compute(self) -> dict[str, Any]:
        """Return the values by name."""

    def reset(self) -> None:
        """Forget every batch."""
        self._sums = {}

    def snapshot(self) -> Self:
        """Return a metric with the state of this one, which later updates do not change. No device sync."""
        copy: Self = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, _sums=dict(self._sums))
        return copy

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums by name; empty before the first batch."""
        return dict(self._sums)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Replace the sums with saved ones."""
        self._sums = dict(state_dict)

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Replace the sums with the total of several states, one of each process that evaluated part of a split."""
        self._sums = {}
        for state in states:
            self._add(**state)

    def _mean(self, name: str) -> float:
        """Return the sum ``name`` divided by the sum ``total``; NaN if that is 0."""
        total = int(self._sums["total"]) if self._sums else 0
        return float(self._sums[name]) / total if total else float("nan")

    def _add(self, **values: Tensor) -> None:
        # A new tensor each time, because snapshots and state dicts hold the earlier ones.
        for name, value in values.items():
            held = self._sums.get(name)
            self._sums[name] = value if held is None else held.to(value.device) + value
