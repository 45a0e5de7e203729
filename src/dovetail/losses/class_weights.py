"""Weights that make rare classes count as much as common ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

#: Per-class weights as a run file says them: a list, or ``"balanced"`` for the inverse frequency in the
#: training split.
ClassWeights = list[float] | Literal["balanced"] | Tensor | None


def compute_class_weights(
    labels: np.ndarray[Any, Any] | Tensor | Sequence[int], num_classes: int | None = None
) -> Tensor:
    """Return one weight per class, inversely proportional to its frequency.

    A class with ``n`` of ``N`` labels among ``K`` classes that occur gets ``N / (K · n)``, so the mean weight
    over the labels is 1. A class that does not occur gets 1: it is never trained on, and must not weigh
    nothing where it is met.

    Args:
        labels: integer labels ≥ 0, of any shape, at least one.
        num_classes: how many classes there are; by default one more than the largest label.

    Returns:
        float32 of shape ``[num_classes]``.

    Raises:
        ValueError: there are no labels, or one is negative or not below ``num_classes``.
    """
    try:
        flat = torch.as_tensor(labels).flatten()
    except (TypeError, ValueError):
        msg = "labels: must be integers; numpy.unique(labels, return_inverse=True)[1] makes them of names"
        raise ValueError(msg) from None
    if not flat.numel():
        msg = "labels: there are none to count"
        raise ValueError(msg)
    if flat.is_floating_point() or flat.is_complex():
        msg = f"labels: must be integers, got {flat.dtype}"
        raise ValueError(msg)
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        msg = f"labels: {low if low < 0 else high} is not a class (0 to {(num_classes or high + 1) - 1})"
        raise ValueError(msg)
    return balanced_weights(torch.bincount(flat.long(), minlength=num_classes or 0).tolist())


def balanced_weights(class_counts: Sequence[int]) -> Tensor:
    """Return the weights of :func:`compute_class_weights` from the number of samples per class."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    weights = counts.sum() / ((counts > 0).sum() * counts)
    return weights.where(counts > 0, 1.0).float()


def read_class_weights(name: str, weights: ClassWeights | str, class_counts: Sequence[int] | None) -> Tensor | None:
    """Return per-class weights as a tensor, or None.

    Args:
        name: the parameter they come from, for messages.
        weights: a list or tensor with one number ≥ 0 per class, ``"balanced"``, or None.
        class_counts: training samples per class, needed for ``"balanced"``.

    Raises:
        ValueError: a weight is negative, or ``"balanced"`` is asked for where class counts are not known.
    """
    if weights is None:
        return None
    if weights == "balanced":
        if class_counts is None:
            msg = f"{name}: 'balanced' needs the samples per class, unknown for this dataset; give a list"
            raise ValueError(msg)
        return balanced_weights(class_counts)
    if isinstance(weights, str):
        msg = f"{name}: must be a list of numbers or 'balanced', got {weights!r}"
        raise ValueError(msg)  # noqa: TRY004 (a word that is not 'balanced' is a wrong value)
    found = torch.as_tensor(weights, dtype=torch.float32)
    if found.ndim != 1 or not bool((found >= 0).all()) or not bool(found.isfinite().all()):
        msg = f"{name}: must be one finite number ≥ 0 per class, got {found.tolist()}"
        raise ValueError(msg)
    if class_counts is not None and len(found) != len(class_counts):
        msg = f"{name}: has {len(found)} numbers, but there are {len(class_counts)} classes"
        raise ValueError(msg)
    return found
