"""`count_right`: count correct predictions and labels in one pass over the logits."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dovetail.ops import _loader

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def count_right(logits: Tensor, targets: Tensor, mask: Tensor | None = None, ignore_index: int = -100) -> Tensor:
    """Count the correct predictions and the labels, without synchronising with the device.

    The prediction is that of `torch.argmax`: the first of several equal maxima, and NaN is larger than any number.
    A label outside the classes counts as a wrong prediction.

    Args:
        logits: [..., classes].
        targets: [...] integer labels.
        mask: [...] booleans, True for labels to count; None for all.
        ignore_index: A label that is not counted.

    Returns:
        [2] int64 on the device of the logits: correct predictions, and labels counted. Not differentiable.

    Raises:
        ValueError: The shapes do not match.
    """
    if logits.shape[:-1] != targets.shape or not logits.ndim or (mask is not None and mask.shape != targets.shape):
        shapes = [list(tensor.shape) for tensor in (logits, targets, mask) if tensor is not None]
        raise ValueError(f"count_right takes logits [..., classes], targets [...] and mask [...], got {shapes}")
    if logits.requires_grad:
        logits = logits.detach()
    fits = logits.dtype in _DTYPES and targets.dtype is torch.int64 and (mask is None or mask.dtype is torch.bool)
    if fits and _loader.is_native(logits):
        counts: Tensor = torch.ops.dovetail.count_right.default(logits, targets, mask, ignore_index)
        return counts
    return count_right_reference(logits, targets, mask, ignore_index)


def count_right_reference(logits: Tensor, targets: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:
    """Compute `count_right` in plain torch: the fallback, and the oracle for tests of the kernels."""
    kept = targets != ignore_index
    if mask is not None:
        kept &= mask.bool()
    right = logits.argmax(-1) == targets if logits.shape[-1] else torch.zeros_like(kept)
    return torch.stack([torch.count_nonzero(right & kept), torch.count_nonzero(kept)])


@_loader.fake("count_right")
def _fake(logits: Tensor, targets: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:  # noqa: ARG001  # the schema's names
    """Return the shape and dtype for torch.compile and torch.export."""
    return logits.new_empty(2, dtype=torch.int64)
