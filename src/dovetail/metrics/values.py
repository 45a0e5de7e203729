"""From a model's outputs and a batch to predicted and true values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dovetail.losses.targets import read_targets, target_mask

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class Values(NamedTuple):
    """Predicted and true values of one shape, in double precision where the device has it, and which of them count."""

    predicted: Tensor
    true: Tensor
    #: Booleans of that shape.
    kept: Tensor

    def errors(self) -> Tensor:
        """Return predicted minus true, 0 where it does not count."""
        return (self.predicted - self.true).where(self.kept, 0.0)


def read_values(who: str, outputs: ModelOutput, batch: Batch) -> Values:
    """Read one batch, without looking at a value.

    Args:
        who: the metric, for messages.
        outputs: predictions.
        batch: targets of their shape; a mask of that shape, or of its beginning, leaves some out.

    Raises:
        ValueError: the shapes differ: values are compared one by one, and not broadcast.
    """
    predicted, true = outputs.logits, read_targets(batch)
    if predicted.shape != true.shape:
        msg = f"{who}: outputs have shape {list(predicted.shape)} but targets {list(true.shape)}; give both one shape"
        raise ValueError(msg)
    mask = target_mask(batch, true)
    kept = torch.ones_like(true, dtype=torch.bool) if mask is None else mask
    dtype = torch.float32 if true.device.type == "mps" else torch.float64  # which has no doubles
    return Values(predicted.to(dtype), true.to(dtype), kept)
