"""`count_right`: how many labels are predicted right, and how many count, in one pass over the scores."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dovetail.ops import _loader

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def count_right(logits: Tensor, targets: Tensor, mask: Tensor | None = None, ignore_index: int = -100) -> Tensor:
    """Count the labels that have the largest score, and the labels that count. Nothing waits for the device.

    As `torch.argmax` has it, the first of several largest scores is the predicted one, and NaN is larger than any
    number. A label that is no class counts, and is wrong.

    Args:
        logits: [..., classes], the scores.
        targets: [...], the labels; integers.
        mask: [...], booleans: which labels count; None for all.
        ignore_index: A label that does not count.

    Returns:
        [2] int64 on the device of the logits: right, and all that count. Not differentiable.

    Raises:
        ValueError: The shapes do not fit.
    """
    if logits.shape[:-1] != targets.shape or not logits.ndim or (mask is not None and mask.shape != targets.shape):
        shapes = [list(one.shape) for one in (logits, targets, mask) if one is not None]
        raise ValueError(f"count_right takes logits [..., classes], targets [...] and a mask like them, got {shapes}")
    if logits.requires_grad:
        logits = logits.detach()
    fits = logits.dtype in _DTYPES and targets.dtype is torch.int64 and (mask is None or mask.dtype is torch.bool)
    if fits and _loader.native(logits):
        counts: Tensor = torch.ops.dovetail.count_right.default(logits, targets, mask, ignore_index)
        return counts
    return count_right_reference(logits, targets, mask, ignore_index)


def count_right_reference(logits: Tensor, targets: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:
    """The same in plain torch: the fallback, and the oracle for the kernels' tests."""
    kept = targets != ignore_index
    if mask is not None:
        kept &= mask.bool()
    right = logits.argmax(-1) == targets if logits.shape[-1] else torch.zeros_like(kept)
    return torch.stack([torch.count_nonzero(right & kept), torch.count_nonzero(kept)])


@_loader.fake("count_right")
def _fake(logits: Tensor, targets: Tensor, mask: Tensor | None, ignore_index: int) -> Tensor:  # noqa: ARG001  # the schema's names
    """Shape and dtype alone, for torch.compile and torch.export."""
    return logits.new_empty(2, dtype=torch.int64)
