"""Read and check the outputs, labels and metadata that the losses need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dovetail import Batch, ModelOutput

_WITH_CLASSES = 2  # dimensions of [batch, classes]


def read_logits(who: str, outputs: ModelOutput, batch: Batch) -> Tensor:
    """Return the logits ``[batch, classes]`` after checking the shapes of logits and labels.

    Raises:
        ValueError: outputs or labels have a different shape.
    """
    logits: Tensor = outputs.logits
    if logits.ndim != _WITH_CLASSES or not logits.shape[1]:
        raise ValueError(f"{who}: outputs have shape {list(logits.shape)} instead of [batch, classes]")
    check_targets(who, logits, batch)
    return logits


def check_targets(who: str, logits: Tensor, batch: Batch) -> None:
    """Raise ValueError if labels are neither one for each row of outputs nor soft labels; they may be missing."""
    targets: Any = batch.get("targets")
    if isinstance(targets, Tensor) and targets.shape != logits.shape[:1] and not are_soft_labels(targets, logits):
        raise ValueError(
            f"{who}: outputs have shape {list(logits.shape)}, so targets must have shape {[len(logits)]}, "
            f"not {list(targets.shape)}"
        )


def are_soft_labels(targets: Tensor, logits: Tensor) -> bool:
    """Return whether labels are probabilities of the classes, as mixing produces them."""
    return targets.is_floating_point() and targets.shape == logits.shape


def read_meta(who: str, batch: Batch, key: str, rows: int, device: torch.device) -> Tensor | None:
    """Return ``meta[key]``, one number for each sample, or None if the batch does not have it.

    Raises:
        ValueError: it is not one number for each sample.
    """
    found: Any = batch.get("meta", {}).get(key)
    if found is None:
        return None
    try:
        tensor = torch.as_tensor(found, device=device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{who}: meta.{key} must be one number for each sample: {error}") from None
    if tensor.shape != (rows,):
        raise ValueError(f"{who}: meta.{key} must be one number for each of {rows} samples, got {list(tensor.shape)}")
    return tensor


def require_meta(who: str, batch: Batch, key: str, logits: Tensor, why: str) -> Tensor:
    """Return ``meta[key]``, one number for each sample.

    Raises:
        ValueError: the batch does not have it; the message lists its keys and says what needs it.
    """
    found = read_meta(who, batch, key, len(logits), logits.device)
    if found is None:
        known = ", ".join(sorted(batch.get("meta", {}))) or "nothing"
        raise ValueError(f"{who}: {why} needs meta.{key}, but the batch's meta has {known}; add '{key}' to data.meta")
    return found
