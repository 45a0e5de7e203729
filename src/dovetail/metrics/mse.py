"""Mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.metrics.counting import CountingMetric
from dovetail.metrics.values import read_values

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class MeanSquaredError(CountingMetric):
    """The mean of ``(predicted - true)²`` over all values, in their unit squared; not a number where none counts.

    Its figure is called ``mse``.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch.

        Raises:
            ValueError: outputs and targets differ in shape.
        """
        values = read_values("mse", outputs, batch)
        self._add(error=values.errors().square().sum(), total=values.kept.sum())

    def compute(self) -> dict[str, float]:
        """Return the error."""
        return {"mse": self._mean("error")}
