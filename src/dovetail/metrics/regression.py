"""Metrics of predicted values: mean absolute error, mean squared error, and R²."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from dovetail.losses.targets import read_targets, target_mask
from dovetail.metrics.base import SumMetric

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

#: The spread of targets is rounding error, and the targets constant, if it is a smaller fraction of their squares.
_ROUNDING: Final = 1e-13


class MeanAbsoluteError(SumMetric):
    """The mean of ``|predicted - true|`` over all values, in their unit; NaN if none counts.

    Its value is named ``mae``.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch.

        Raises:
            ValueError: outputs and targets differ in shape.
        """
        values = _read_values("mae", outputs, batch)
        self._add(error=values.errors().abs().sum(), total=values.kept.sum())

    def compute(self) -> dict[str, float]:
        """Return the error."""
        return {"mae": self._mean("error")}


class MeanSquaredError(SumMetric):
    """The mean of ``(predicted - true)²`` over all values, in their unit squared; NaN if none counts.

    Its value is named ``mse``.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch.

        Raises:
            ValueError: outputs and targets differ in shape.
        """
        values = _read_values("mse", outputs, batch)
        self._add(error=values.errors().square().sum(), total=values.kept.sum())

    def compute(self) -> dict[str, float]:
        """Return the error."""
        return {"mse": self._mean("error")}


class R2(SumMetric):
    """The coefficient of determination, ``1 - Σ (true - predicted)² / Σ (true - mean)²``.

    1 is perfect, 0 is as good as predicting the mean, and below 0 is worse. If samples have several values, it is the
    mean of their coefficients, as in scikit-learn. For constant targets it is 1 if the predictions equal them, else 0;
    for fewer than two samples it is NaN. Its value is named ``r2``.

    It is computed from sums in double precision, so it loses digits if the targets' mean is a million times their
    spread.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch.

        Raises:
            ValueError: outputs and targets differ in shape, or samples have another number of values than in earlier
                batches.
        """
        values = _read_values("r2", outputs, batch)
        columns = values.true.shape[-1] if values.true.ndim > 1 else 1
        true, kept, errors = (tensor.reshape(-1, columns) for tensor in (values.true, values.kept, values.errors()))
        held = self._sums.get("total")
        if held is not None and len(held) != columns:
            raise ValueError(f"r2: targets have {columns} values per sample, but {len(held)} in earlier batches")
        counted = true.where(kept, 0.0)
        self._add(
            total=kept.sum(dim=0),
            sum=counted.sum(dim=0),
            squares=counted.square().sum(dim=0),
            residual=errors.square().sum(dim=0),
        )

    def compute(self) -> dict[str, float]:
        """Return the coefficient."""
        if not self._sums:
            return {"r2": float("nan")}
        total, summed, squares, residual = (
            self._sums[name].cpu().double() for name in ("total", "sum", "squares", "residual")
        )
        spread = squares - summed.square() / total
        constant = spread <= _ROUNDING * squares
        equal = (residual <= _ROUNDING * squares).double()
        each = torch.where(constant, equal, 1 - residual / spread)
        return {"r2": float(each.where(total > 1, torch.nan).mean())}


class _Values(NamedTuple):
    """Predicted and true values of the same shape, in double precision if the device supports it."""

    predicted: Tensor
    true: Tensor
    #: Which values count, as booleans of that shape.
    kept: Tensor

    def errors(self) -> Tensor:
        """Return predicted minus true, 0 for values that do not count."""
        return (self.predicted - self.true).where(self.kept, 0.0)


def _read_values(metric: str, outputs: ModelOutput, batch: Batch) -> _Values:
    """Return a batch's values. Reads no value, so it does not sync.

    Args:
        metric: its name, for messages.
        outputs: predictions.
        batch: targets of the predictions' shape; a mask of that shape, or of a prefix of it, leaves some out.

    Raises:
        ValueError: the shapes differ: values are compared one by one, without broadcasting.
    """
    predicted, true = outputs.logits, read_targets(batch)
    if predicted.shape != true.shape:
        raise ValueError(
            f"{metric}: outputs have shape {list(predicted.shape)} but targets {list(true.shape)}; "
            "give both the same shape"
        )
    mask = target_mask(batch, true)
    kept = torch.ones_like(true, dtype=torch.bool) if mask is None else mask
    dtype = torch.float32 if true.device.type == "mps" else torch.float64  # MPS has no float64
    return _Values(predicted.to(dtype), true.to(dtype), kept)
