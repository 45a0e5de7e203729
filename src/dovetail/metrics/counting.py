"""What all our metrics are: sums, of counts or of values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class CountingMetric(ABC):
    """Adds up tensors on the device that they are counted on.

    Sums of integers are exact, and the same in any order of batches; values are added in double precision. Nothing is
    read back before ``compute``.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Tensor] = {}

    @abstractmethod
    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch."""

    @abstractmethod
    def compute(self) -> dict[str, Any]:
        """Return the figures by name."""

    def reset(self) -> None:
        """Forget every batch."""
        self._counts = {}

    def snapshot(self) -> Self:
        """Return a metric with the state of this one, which later updates do not change. No device sync."""
        kept: Self = object.__new__(type(self))
        kept.__dict__.update(self.__dict__, _counts=dict(self._counts))
        return kept

    def state_dict(self) -> dict[str, Tensor]:
        """Return the counts so far by name; empty before the first batch."""
        return dict(self._counts)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from saved counts."""
        self._counts = dict(state_dict)

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Go on from the sum of several states, such as those of the processes that share the batches of a split."""
        self._counts = {}
        for state in states:
            self._add(**state)

    def _mean(self, name: str) -> float:
        """Return the sum of that name over the ``total``; not a number where that is 0."""
        total = int(self._counts["total"]) if self._counts else 0
        return float(self._counts[name]) / total if total else float("nan")

    def _add(self, **counts: Tensor) -> None:
        # A new tensor each time: a state handed out earlier stays as it was.
        for name, count in counts.items():
            held = self._counts.get(name)
            self._counts[name] = count if held is None else held.to(count.device) + count
