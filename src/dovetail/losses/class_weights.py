"""Class weights that make rare classes count as much as common ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

#: One weight per class: a list, or ``"balanced"`` for the inverse class frequency in the training split.
ClassWeights = list[float] | Literal["balanced"] | Tensor | None


def compute_class_weights(
    labels: np.ndarray[Any, Any] | Tensor | Sequence[int], num_classes: int | None = None
) -> Tensor:
    """Return one weight per class, inversely proportional to its frequency.

    A class with ``n`` of ``N`` labels, where ``K`` classes occur, gets ``N / (K · n)``: the mean weight over the labels
    is 1. A class that does not occur gets 1, so that it still counts if a label of it turns up later.

    Args:
        labels: integer labels ≥ 0 of any shape, at least one.
        num_classes: number of classes; by default the largest label + 1.

    Returns:
        float32 of shape ``[num_classes]``.

    Raises:
        ValueError: there are no labels, they are not integers, or one is negative or not below ``num_classes``.
    """
    try:
        flat = torch.as_tensor(labels).flatten()
    except (TypeError, ValueError):
        raise ValueError(
            "labels: must be integers; numpy.unique(labels, return_inverse=True)[1] turns names into integers"
        ) from None
    if not flat.numel():
        raise ValueError("labels: must not be empty")
    if flat.is_floating_point() or flat.is_complex():
        raise ValueError(f"labels: must be integers, got {flat.dtype}")
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        raise ValueError(f"labels: {low if low < 0 else high} is not a class (0 to {(num_classes or high + 1) - 1})")
    return balanced_weights(torch.bincount(flat.long(), minlength=num_classes or 0).tolist())


def balanced_weights(class_counts: Sequence[int]) -> Tensor:
    """Return the weights of :func:`compute_class_weights` from the number of samples per class."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    weights = counts.sum() / ((counts > 0).sum() * counts)
    return weights.where(counts > 0, 1.0).float()


def read_class_weights(name: str, weights: ClassWeights | str, class_counts: Sequence[int] | None) -> Tensor | None:
    """Return class weights as a float32 tensor ``[classes]``, or None.

    Args:
        name: the parameter that holds them, for messages.
        weights: a list or tensor with one number ≥ 0 per class, ``"balanced"``, or None.
        class_counts: training samples per class, needed for ``"balanced"``.

    Raises:
        ValueError: a weight is negative or not finite, the length is wrong, or ``weights`` is ``"balanced"`` and the
            class counts are unknown.
    """
    if weights is None:
        return None
    if weights == "balanced":
        if class_counts is None:
            raise ValueError(f"{name}: 'balanced' needs the samples per class, unknown for this dataset; give a list")
        return balanced_weights(class_counts)
    if isinstance(weights, str):
        raise ValueError(  # noqa: TRY004 (any word but 'balanced' is a wrong value)
            f"{name}: must be a list of numbers or 'balanced', got {weights!r}"
        )
    tensor = torch.as_tensor(weights, dtype=torch.float32)
    if tensor.ndim != 1 or not bool((tensor >= 0).all()) or not bool(tensor.isfinite().all()):
        raise ValueError(f"{name}: must be one finite number ≥ 0 per class, got {tensor.tolist()}")
    if class_counts is not None and len(tensor) != len(class_counts):
        raise ValueError(f"{name}: has {len(tensor)} numbers, but there are {len(class_counts)} classes")
    return tensor
