"""`grad_norms`: statistics of a list of gradients in one pass over the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from attrs import field, frozen
from torch import Tensor

from dovetail.ops import _loader

#: Edges of the histogram of norms, by factors of about three; the same as in csrc/grad_norms/grad_norms.h.
HISTOGRAM_EDGES: Final = (*(float(f"{digit}e{power}") for power in range(-8, 4) for digit in (1, 3)), 1e4)

_BINS: Final = len(HISTOGRAM_EDGES) + 1
_SUMMARY: Final = 5  # total, clip_coef, minimum, mean, maximum
_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


@frozen(eq=False)
class GradNorms:
    """Statistics of N gradients on their device; reading a number synchronises with the device.

    Two tensors hold all of them, so transferring them to the host takes two copies; the properties are views.

    Attributes:
        values: [2 N + 5] float64.
        counts: [3 N + 26] int64.
    """

    values: Tensor
    counts: Tensor
    #: The cached result of :meth:`summary`.
    _summary: list[float] = field(factory=list, init=False, repr=False)

    @property
    def norms(self) -> Tensor:
        """[N] float64: the L2 norm of each gradient; 0 for an empty one; NaN or Inf if it contains one."""
        return self.values[: len(self)]

    @property
    def max_abs(self) -> Tensor:
        """[N] float64: the largest magnitude in each; 0 for an empty one; NaN if it contains one."""
        return self.values[len(self) : 2 * len(self)]

    @property
    def zeros(self) -> Tensor:
        """[N] int64: the number of elements of each that are 0 or -0."""
        return self.counts[: len(self)]

    @property
    def nans(self) -> Tensor:
        """[N] int64: the number of elements of each that are NaN."""
        return self.counts[len(self) : 2 * len(self)]

    @property
    def infs(self) -> Tensor:
        """[N] int64: the number of elements of each that are infinite."""
        return self.counts[2 * len(self) : 3 * len(self)]

    @property
    def total(self) -> Tensor:
        """[] float64: the L2 norm of all gradients together."""
        return self.values[-5]

    @property
    def clip_coef(self) -> Tensor:
        """[] float64: the factor for clipping, min(1, max_norm / (total + 1e-6)); NaN if the total is."""
        return self.values[-4]

    @property
    def minimum(self) -> Tensor:
        """[] float64: the smallest of the norms; NaN if one is; 0 without gradients."""
        return self.values[-3]

    @property
    def mean(self) -> Tensor:
        """[] float64: the mean of the norms; NaN if one is; 0 without gradients."""
        return self.values[-2]

    @property
    def maximum(self) -> Tensor:
        """[] float64: the largest of the norms; NaN if one is; 0 without gradients."""
        return self.values[-1]

    @property
    def histogram(self) -> Tensor:
        """[26] int64: the number of norms below, between and from `HISTOGRAM_EDGES` on; NaN is in the last bin."""
        return self.counts[-_BINS:]

    def summary(self) -> list[float]:
        """Return total, clip_coef, minimum, mean and maximum as floats; the first call synchronises with the device."""
        if not self._summary:
            # Reading all values is faster than a view of the last five.
            self._summary.extend(self.values.tolist()[-_SUMMARY:])
        return self._summary

    def __len__(self) -> int:
        """Return N, the number of gradients."""
        return (len(self.values) - _SUMMARY) // 2

    def to_host(self) -> GradNorms:
        """Start an asynchronous copy to pinned memory of the host and return it.

        From a CUDA device, the copy is complete once an event recorded after this call has passed, in a training loop
        by the next step. On the CPU, return the object itself.
        """
        if not self.values.is_cuda:
            return self
        values = torch.empty_like(self.values, device="cpu", pin_memory=True)
        counts = torch.empty_like(self.counts, device="cpu", pin_memory=True)
        return GradNorms(values.copy_(self.values, non_blocking=True), counts.copy_(self.counts, non_blocking=True))


@torch.no_grad()
def grad_norms(grads: Iterable[Tensor | None], max_norm: float = math.inf) -> GradNorms:
    """Compute norms, largest magnitudes and counts of zeros, NaN and Inf of gradients in one pass over the data.

    Up to 128 squares are summed in float32, these sums in float64, always in the same order. The relative error of a
    norm is at most 4e-6, in practice 1e-7; it does not depend on the number of threads, and norms do not overflow where
    a float32 sum of squares would. No call synchronises with the device. The result is not differentiable.

    Args:
        grads: Float16, bfloat16, float32 or float64 tensors of any shapes and strides, also of mixed dtypes. None is
            skipped; the rows of the result are in the order of the others. A sparse gradient is converted to a dense
            one, with a single warning. Gradients on several devices are reduced there, and their statistics are
            combined on the device of the first.
        max_norm: The total norm for `clip_coef`; above 0.

    Returns:
        The statistics, on the device of the first gradient; on the CPU without gradients.

    Raises:
        TypeError: A gradient has an unsupported dtype.
        ValueError: `max_norm` is not above 0.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}")
    dense = [_dense(grad) for grad in grads if grad is not None]
    for position, grad in enumerate(dense):
        if grad.dtype not in _DTYPES:
            raise TypeError(
                f"grad_norms takes float16, bfloat16, float32 or float64; gradient {position} is {grad.dtype}"
            )
    by_device: dict[torch.device, list[int]] = {}
    for position, grad in enumerate(dense):
        by_device.setdefault(grad.device, []).append(position)
    if len(by_device) > 1:
        return _combine_devices(dense, by_device, max_norm)
    if dense and _loader.is_native(dense[0]):
        return GradNorms(*torch.ops.dovetail.grad_norms(dense, max_norm))
    return grad_norms_reference(dense, max_norm)


class GradNormsPlan:
    """`grad_norms` for the gradients of the same parameters at every update, with its checks done once.

    A gradient has its parameter's device and dtype, so the plan checks the parameters once. It does not cache
    addresses: gradients dropped with `set_to_none` are allocated elsewhere, and filling the kernel's table of addresses
        takes less
    time than detecting a stale one.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        """Check whether the kernel supports the gradients of ``parameters``."""
        tensors = list(parameters)
        plain = all(type(tensor) in {Tensor, torch.nn.Parameter} and tensor.dtype in _DTYPES for tensor in tensors)
        self._op: Any = None
        if plain and len({tensor.device for tensor in tensors}) == 1 and _loader.is_native(tensors[0]):
            self._op = torch.ops.dovetail.grad_norms.default

    def __call__(self, grads: Sequence[Tensor], max_norm: float = math.inf) -> GradNorms:
        """Return the statistics of gradients of at least one of the parameters, as `grad_norms` does.

        Args:
            grads: Gradients, none of them None.
            max_norm: The total norm for `clip_coef`; above 0.
        """
        if self._op is not None:
            try:
                values, counts = self._op(grads, max_norm)
            except NotImplementedError:  # a sparse gradient
                pass
            else:
                if values.requires_grad:  # the gradients have a graph of their own
                    return GradNorms(values.detach(), counts)
                return GradNorms(values, counts)
        return grad_norms(grads, max_norm)


def grad_norms_reference(grads: Sequence[Tensor], max_norm: float = math.inf) -> GradNorms:
    """Compute `grad_norms` in plain torch, in many passes: the fallback, and the oracle for tests of the kernels."""
    device = grads[0].device if grads else torch.device("cpu")
    if not grads:
        empty = torch.zeros(0, dtype=torch.float64, device=device)
        return summarize(empty, empty, empty.long(), max_norm)
    norms = torch.stack(torch._foreach_norm(list(grads), 2, dtype=torch.float64))  # noqa: SLF001 (torch.nn.utils uses it for clipping)
    # aminmax rejects empty tensors; use a zero instead.
    extremes = [torch.aminmax(grad if grad.numel() else grad.new_zeros(1)) for grad in grads]
    low, high = (torch.stack(column).double() for column in zip(*extremes, strict=True))
    max_abs = torch.maximum(-low, high)
    zeros = torch.stack([grad.numel() - torch.count_nonzero(grad) for grad in grads])
    if device.type == "cpu" and bool(max_abs.isfinite().all()):  # no synchronisation on the CPU
        nans = infs = torch.zeros_like(zeros)
    else:
        nans = torch.stack([torch.count_nonzero(grad.isnan()) for grad in grads])
        infs = torch.stack([torch.count_nonzero(grad.isinf()) for grad in grads])
    return summarize(norms, max_abs, torch.cat([zeros, nans, infs]), max_norm)


def summarize(norms: Tensor, max_abs: Tensor, counts: Tensor, max_norm: float) -> GradNorms:
    """Return the complete statistics from those of each gradient: add total, extremes, mean and histogram."""
    total = torch.linalg.vector_norm(norms)
    coefficient = (max_norm / (total + 1e-6)).clamp(max=1.0)
    extremes = [norms.amin(), norms.mean(), norms.amax()] if len(norms) else [total] * 3
    edges = torch.tensor(HISTOGRAM_EDGES, dtype=torch.float64, device=norms.device)
    bins = (~(norms[:, None] < edges)).sum(1)  # NaN counts as large
    histogram = (bins[:, None] == torch.arange(_BINS, device=norms.device)).sum(0)
    summary = torch.stack([total, coefficient, *extremes])
    return GradNorms(torch.cat([norms, max_abs, summary]), torch.cat([counts, histogram]))


def _combine_devices(grads: Sequence[Tensor], by_device: dict[torch.device, list[int]], max_norm: float) -> GradNorms:
    """Reduce gradients on each device, and return their statistics on the device of the first."""
    first = grads[0].device
    order = torch.tensor([position for positions in by_device.values() for position in positions]).argsort().to(first)
    parts = [grad_norms([grads[position] for position in positions]) for positions in by_device.values()]

    def rows(name: str) -> Tensor:
        return torch.cat([getattr(part, name).to(first) for part in parts])[order]

    counts = torch.cat([rows("zeros"), rows("nans"), rows("infs")])
    return summarize(rows("norms"), rows("max_abs"), counts, max_norm)


def _dense(grad: Tensor) -> Tensor:
    """Return the gradient, converted to a dense tensor if it is sparse."""
    if grad.layout is torch.strided:
        return grad
    _loader.warn_once(
        "grad_norms converts sparse gradients to dense ones, which takes as much memory as their parameters"
    )
    return grad.to_dense()


@_loader.fake("grad_norms")
def _fake(grads: Sequence[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001  # the schema's name
    """Return the shapes and dtypes for torch.compile and torch.export."""
    first, count = grads[0], len(grads)
    return (
        first.new_empty(2 * count + _SUMMARY, dtype=torch.float64),
        first.new_empty(3 * count + _BINS, dtype=torch.int64),
    )
