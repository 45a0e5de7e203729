"""Mean absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.metrics.counting import CountingMetric
from dovetail.metrics.values import read_values

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class MeanAbsoluteError(CountingMetric):
    """The mean of ``|predicted - true|`` over all values, in their unit; not a number where none counts.

    Its figure is called ``mae``.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch.

        Raises:
            ValueError: outputs and targets differ in shape.
        """
        values = read_values("mae", outputs, batch)
        self._add(error=values.errors().abs().sum(), total=values.kept.sum())

    def compute(self) -> dict[str, float]:
        """Return the error."""
        return {"mae": self._mean("error")}
