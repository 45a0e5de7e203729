"""The coefficient of determination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from dovetail.metrics.counting import CountingMetric
from dovetail.metrics.values import read_values

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

#: A smaller share than this of the squares is rounding: the targets are constant.
_ROUNDING: Final = 1e-13


class R2(CountingMetric):
    """``1 - Σ (true - predicted)² / Σ (true - mean)²``: 1 is perfect, 0 no better than the mean, and below 0 worse.

    Where samples have several values, it is the mean of their coefficients, as in scikit-learn. For constant targets it
    is 1 if they are met and else 0; of fewer than two samples it is not a number. Its figure is called ``r2``.

    It is computed from sums in double precision, so digits are lost where the targets' mean is a million times their
    spread.
    """

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch.

        Raises:
            ValueError: outputs and targets differ in shape, or the targets from earlier ones in how many values a
                sample has.
        """
        values = read_values("r2", outputs, batch)
        columns = values.true.shape[-1] if values.true.ndim > 1 else 1
        true, kept, errors = (one.reshape(-1, columns) for one in (values.true, values.kept, values.errors()))
        held = self._counts.get("total")
        if held is not None and len(held) != columns:
            msg = f"r2: targets have {columns} values a sample, but {len(held)} in earlier batches"
            raise ValueError(msg)
        counted = true.where(kept, 0.0)
        self._add(
            total=kept.sum(dim=0),
            sum=counted.sum(dim=0),
            squares=counted.square().sum(dim=0),
            residual=errors.square().sum(dim=0),
        )

    def compute(self) -> dict[str, float]:
        """Return the coefficient."""
        if not self._counts:
            return {"r2": float("nan")}
        total, summed, squares, residual = (
            self._counts[name].cpu().double() for name in ("total", "sum", "squares", "residual")
        )
        spread = squares - summed.square() / total
        constant = spread <= _ROUNDING * squares
        met = (residual <= _ROUNDING * squares).double()
        each = torch.where(constant, met, 1 - residual / spread)
        return {"r2": float(each.where(total > 1, torch.nan).mean())}
