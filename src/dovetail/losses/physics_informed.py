"""A data loss plus a physics loss.

Raissi, Perdikaris and Karniadakis, «Physics-informed neural networks», 2019, equation 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor, nn

from dovetail.losses.adapt import as_loss
from dovetail.losses.result import LossResult
from dovetail.losses.targets import read_targets
from dovetail.spec import AtLeast, Loss

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class PhysicsInformedLoss(nn.Module):
    """``data_weight · data + physics_weight · physics``, with both as parts.

    Its weight is the weight of the data loss; if that is 0 for a batch, so is the physics term. Batches add up exactly
    if both losses average over the same units, such as samples.

    Args:
        data_weight: factor of the data loss, ≥ 0.
        physics_weight: factor of the physics loss, ≥ 0.
        data: the data loss; by default cross-entropy for integer targets, mean squared error for others.
        physics: the physics loss; by default the mean square of ``physics_residual``, which the model must return
            beside its outputs.

    Raises:
        ValueError: a factor is negative.
        TypeError: ``data`` or ``physics`` is not a loss.
    """

    def __init__(
        self,
        data_weight: Annotated[float, AtLeast(0)] = 1.0,
        physics_weight: Annotated[float, AtLeast(0)] = 0.1,
        *,
        data: Loss | None = None,
        physics: Loss | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("data_weight", data_weight), ("physics_weight", physics_weight)):
            if value < 0:
                raise ValueError(f"{name}: must be at least 0, got {value:g}")
        self.data_weight = data_weight
        self.physics_weight = physics_weight
        # Attributes beside their adapters, so that torch registers a module and its parameters.
        self.data, self.physics = data, physics
        self._data = _data_loss if data is None else as_loss(data)
        self._physics = _residual_loss if physics is None else as_loss(physics)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the sum, and the parts ``data`` and ``physics`` without their factors.

        Raises:
            ValueError: either loss raises for the batch, or the model returned no ``physics_residual``.
        """
        data, physics = self._data(outputs, batch), self._physics(outputs, batch)
        total = self.data_weight * data.total + self.physics_weight * physics.total
        if isinstance(data.weight, Tensor):
            total = total.where(data.weight > 0, 0.0)
        elif not data.weight:
            total = total * 0.0
        return LossResult(total, {"data": data.total, "physics": physics.total}, data.weight)


_CLASSES, _VALUES = as_loss(nn.CrossEntropyLoss()), as_loss(nn.MSELoss())


def _data_loss(outputs: ModelOutput, batch: Batch) -> LossResult:
    return (_VALUES if read_targets(batch).is_floating_point() else _CLASSES)(outputs, batch)


def _residual_loss(outputs: ModelOutput, batch: Batch) -> LossResult:
    residual: Any = outputs.extras.get("physics_residual")
    if not isinstance(residual, torch.Tensor):
        raise ValueError(  # noqa: TRY004 (what the model returned is a value)
            "physics_informed: the model returned no 'physics_residual'; return a mapping with 'logits' and "
            "'physics_residual', or set loss.physics"
        )
    return LossResult(residual.square().sum() / max(residual.numel(), 1), {}, float(len(read_targets(batch))))
