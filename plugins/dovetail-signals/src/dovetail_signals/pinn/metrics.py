"""The relative error of a solution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dovetail import Batch, ModelOutput


class RelativeL2:
    """The relative L2 error ``‖û - u‖₂ / ‖u‖₂`` over all samples: 0 is perfect, 1 is no better than zero everywhere.

    The metric is logged as ``relative_l2``.

    Args:
        magnitude: compare the magnitudes ``|u|`` of vector-valued samples, as is usual for a complex solution.
    """

    def __init__(self, *, magnitude: bool = False) -> None:
        self._magnitude = magnitude
        self._error: Tensor | float = 0.0
        self._size: Tensor | float = 0.0

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch.

        Raises:
            ValueError: outputs and targets differ in shape.
        """
        found, true = self._read(outputs.logits), self._read(batch["targets"])
        if found.shape != true.shape:
            raise ValueError(
                f"relative_l2: outputs have shape {list(found.shape)}, but targets {list(true.shape)}; make them equal"
            )
        self._error = self._error + (found - true).square().sum()
        self._size = self._size + true.square().sum()

    def _read(self, values: Tensor) -> Tensor:
        values = values.detach().to(torch.float32 if values.device.type == "mps" else torch.float64)
        return torch.linalg.vector_norm(values, dim=1) if self._magnitude and values.ndim > 1 else values

    def compute(self) -> dict[str, float]:
        """Return the error; NaN if all true values are 0."""
        error, size = float(self._error), float(self._size)
        return {"relative_l2": math.sqrt(error / size) if size else math.nan}

    def reset(self) -> None:
        """Clear the sums."""
        self._error = self._size = 0.0

    def state_dict(self) -> dict[str, float]:
        """Return the sums so far."""
        return {"error": float(self._error), "size": float(self._size)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the sums."""
        self._error, self._size = state["error"], state["size"]
