"""`grad_norms`: the health of a list of gradients, read in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from dovetail.ops import _loader

_DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


class GradNorms(NamedTuple):
    """Statistics of N gradients, as tensors on the gradients' device: reading a value waits for the device.

    Attributes:
        norms: [N] float64, the L2 norm of each gradient; 0 for an empty one; NaN or Inf if it holds one.
        max_abs: [N] float64, the largest magnitude in each; 0 for an empty one; NaN if it holds one.
        nonfinite: [N] int64, how many elements of each are NaN or ±Inf.
        total: [] float64, the L2 norm of all gradients together.
    """

    norms: Tensor
    max_abs: Tensor
    nonfinite: Tensor
    total: Tensor


@torch.no_grad()
def grad_norms(grads: Sequence[Tensor]) -> GradNorms:
    """L2 norm, largest magnitude and count of NaN and Inf of each gradient, and the total norm, in one pass.

    Sums are float64 in a fixed order: the figures do not depend on the number of threads, and do not overflow
    where a float32 sum of squares would. Nothing waits for the device. The result is not differentiable.

    Args:
        grads: Float16, bfloat16, float32 or float64 tensors of any shapes and strides, all on one device.
            Dtypes may be mixed. Sparse gradients are read through their coalesced values. An empty list gives
            empty statistics and a total of 0, on the CPU.

    Returns:
        The statistics, in the order of `grads`.

    Raises:
        TypeError: A gradient has another dtype.
        ValueError: Gradients are on several devices.
    """
    dense = [grad if grad.layout is torch.strided else grad.coalesce().values() for grad in grads]
    if not dense:
        return grad_norms_reference(dense)
    device = dense[0].device
    for position, grad in enumerate(dense):
        if grad.dtype not in _DTYPES:
            raise TypeError(f"grad_norms takes floats of 16, 32 or 64 bits; gradient {position} is {grad.dtype}")
        if grad.device != device:
            where = f"0 is on {device}, {position} on {grad.device}"
            raise ValueError(f"grad_norms takes gradients that are all on one device; {where}")
    if device.type in {"cpu", "cuda"} and _loader.load(cast("_loader.Device", device.type)).live:
        return GradNorms(*torch.ops.dovetail.grad_norms(dense))
    return grad_norms_reference(dense)


def grad_norms_reference(grads: Sequence[Tensor]) -> GradNorms:
    """The same in plain torch, in several passes: the fallback, and the oracle for the kernels' tests."""
    zero = torch.zeros((), dtype=torch.float64, device=grads[0].device if grads else "cpu")
    if not grads:
        return GradNorms(zero.new_zeros(0), zero.new_zeros(0), torch.zeros(0, dtype=torch.int64), zero)
    norms = torch.stack([torch.linalg.vector_norm(grad, dtype=torch.float64) for grad in grads])
    max_abs = torch.stack([grad.abs().amax().double() if grad.numel() else zero for grad in grads])
    nonfinite = torch.stack([grad.isfinite().logical_not_().sum() for grad in grads])
    return GradNorms(norms, max_abs, nonfinite, torch.linalg.vector_norm(norms))


@_loader.fake("grad_norms")
def _fake(grads: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes and dtypes alone, for torch.compile and torch.export."""
    first, count = grads[0], len(grads)
    return (
        first.new_empty(count, dtype=torch.float64),
        first.new_empty(count, dtype=torch.float64),
        first.new_empty(count, dtype=torch.int64),
        first.new_empty((), dtype=torch.float64),
    )
