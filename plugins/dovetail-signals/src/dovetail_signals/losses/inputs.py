"""What the losses read of outputs and batches, and what they say when it is not there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dovetail import Batch, ModelOutput

_WITH_CLASSES = 2  # dimensions of [batch, classes]


def read_logits(who: str, outputs: ModelOutput, batch: Batch) -> Tensor:
    """Return class scores ``[batch, classes]``, having looked at labels too, where there are any.

    Raises:
        ValueError: outputs or labels have another shape.
    """
    logits: Tensor = outputs.logits
    if logits.ndim != _WITH_CLASSES or not logits.shape[1]:
        raise ValueError(f"{who}: outputs have shape {list(logits.shape)}; it needs [batch, classes]")
    check_targets(who, logits, batch)
    return logits


def check_targets(who: str, logits: Tensor, batch: Batch) -> None:
    """Raise ValueError unless labels, where there are any, are one for each row of outputs, or shares of classes."""
    targets: Any = batch.get("targets")
    if isinstance(targets, Tensor) and targets.shape != logits.shape[:1] and not are_soft_labels(targets, logits):
        raise ValueError(
            f"{who}: outputs have shape {list(logits.shape)}, so targets must have shape {[len(logits)]}, "
            f"not {list(targets.shape)}"
        )


def are_soft_labels(targets: Tensor, logits: Tensor) -> bool:
    """Say whether labels are a share for each class, as they are of samples that were mixed."""
    return targets.is_floating_point() and targets.shape == logits.shape


def read_meta(who: str, batch: Batch, key: str, rows: int, device: torch.device) -> Tensor | None:
    """Return a number for each sample from the batch's meta, None where there is none of that name.

    Raises:
        ValueError: it is not one number for each sample.
    """
    found: Any = batch.get("meta", {}).get(key)
    if found is None:
        return None
    try:
        tensor = torch.as_tensor(found, device=device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{who}: meta.{key} is no number for each sample: {error}") from None
    if tensor.shape != (rows,):
        raise ValueError(f"{who}: meta.{key} must be one number for each of {rows} samples, got {list(tensor.shape)}")
    return tensor


def require_meta(who: str, batch: Batch, key: str, logits: Tensor, why: str) -> Tensor:
    """Return a number for each sample from the batch's meta.

    Raises:
        ValueError: there is none; says what the batch has instead and why it is needed.
    """
    found = read_meta(who, batch, key, len(logits), logits.device)
    if found is None:
        there = ", ".join(sorted(batch.get("meta", {}))) or "nothing"
        raise ValueError(f"{who}: {why} needs meta.{key}; the batch's meta has {there} (the dataset's option meta)")
    return found
