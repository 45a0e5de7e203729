"""`grad_norms`: the health of a list of gradients, read in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from attrs import field, frozen
from torch import Tensor

from dovetail.ops import _loader

#: Edges of the histogram of norms, rising by factors of about three. The kernels have the same numbers.
HISTOGRAM_EDGES: Final = (*(float(f"{digit}e{power}") for power in range(-8, 4) for digit in (1, 3)), 1e4)

_BINS: Final = len(HISTOGRAM_EDGES) + 1
_SUMMARY: Final = 5  # total, clip_coef, minimum, mean, maximum
_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


@frozen(eq=False)
class GradNorms:
    """Statistics of N gradients, on the gradients' device: reading a number waits for the device.

    All of them lie in two tensors, so that a copy to the host is two copies; the properties are views of those.

    Attributes:
        values: [2 N + 5] float64.
        counts: [3 N + 26] int64.
    """

    values: Tensor
    counts: Tensor
    #: What :meth:`summary` has read.
    _summary: list[float] = field(factory=list, init=False, repr=False)

    @property
    def norms(self) -> Tensor:
        """[N] float64: the L2 norm of each gradient; 0 for an empty one; NaN or Inf if it holds one."""
        return self.values[: len(self)]

    @property
    def max_abs(self) -> Tensor:
        """[N] float64: the largest magnitude in each; 0 for an empty one; NaN if it holds one."""
        return self.values[len(self) : 2 * len(self)]

    @property
    def zeros(self) -> Tensor:
        """[N] int64: how many elements of each are 0 or -0."""
        return self.counts[: len(self)]

    @property
    def nans(self) -> Tensor:
        """[N] int64: how many elements of each are NaN."""
        return self.counts[len(self) : 2 * len(self)]

    @property
    def infs(self) -> Tensor:
        """[N] int64: how many elements of each are infinite."""
        return self.counts[2 * len(self) : 3 * len(self)]

    @property
    def total(self) -> Tensor:
        """[] float64: the L2 norm of all gradients together."""
        return self.values[-5]

    @property
    def clip_coef(self) -> Tensor:
        """[] float64: min(1, max_norm / (total + 1e-6)), by which clipping multiplies; NaN if the total is."""
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
        """[26] int64: norms below the first of `HISTOGRAM_EDGES`, from each to the next, from the last on (and NaN)."""
        return self.counts[-_BINS:]

    def summary(self) -> list[float]:
        """[5]: total, clip_coef, minimum, mean and maximum, as numbers. Waits for the device, the first time."""
        if not self._summary:
            # All values are read, which takes torch less time than making a view of some.
            self._summary.extend(self.values.tolist()[-_SUMMARY:])
        return self._summary

    def __len__(self) -> int:
        """N, the number of gradients."""
        return (len(self.values) - _SUMMARY) // 2

    def to_host(self) -> GradNorms:
        """The statistics in pinned memory of the host, on their way: nothing waits.

        From a CUDA device they have arrived when an event recorded after this call has passed, which in a training
        loop is so a step later. On the CPU this is the object itself.
        """
        if not self.values.is_cuda:
            return self
        values = torch.empty_like(self.values, device="cpu", pin_memory=True)
        counts = torch.empty_like(self.counts, device="cpu", pin_memory=True)
        return GradNorms(values.copy_(self.values, non_blocking=True), counts.copy_(self.counts, non_blocking=True))


@torch.no_grad()
def grad_norms(grads: Iterable[Tensor | None], max_norm: float = math.inf) -> GradNorms:
    """Norms, extremes and counts of zeros, NaN and Inf of each gradient and of all, in one pass over the data.

    Squares are added up in float32 a few dozen at a time, beyond that in float64, in a fixed order: a norm is within
    4e-6 of the exact one at worst (relative) and 1e-7 in practice, does not depend on the number of threads, and does
    not overflow where a float32 sum of squares would. Nothing waits for the device. The result is not differentiable.

    Args:
        grads: Float16, bfloat16, float32 or float64 tensors of any shapes and strides; dtypes may be mixed. None is
            skipped: rows of the result are in the order of the rest. A sparse gradient is made dense, with one warning.
            Gradients on several devices are read where they are and their statistics joined on the first one's.
        max_norm: What `clip_coef` would clip the total norm to; > 0.

    Returns:
        The statistics, on the device of the first gradient; on the CPU without gradients.

    Raises:
        TypeError: A gradient has another dtype.
        ValueError: `max_norm` is not above 0.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}")
    dense = [_dense(grad) for grad in grads if grad is not None]
    for position, grad in enumerate(dense):
        if grad.dtype not in _DTYPES:
            raise TypeError(f"grad_norms takes floats of 16, 32 or 64 bits; gradient {position} is {grad.dtype}")
    places: dict[torch.device, list[int]] = {}
    for position, grad in enumerate(dense):
        places.setdefault(grad.device, []).append(position)
    if len(places) > 1:
        return _joined(dense, places, max_norm)
    if dense and _loader.native(dense[0]):
        return GradNorms(*torch.ops.dovetail.grad_norms(dense, max_norm))
    return grad_norms_reference(dense, max_norm)


class GradNormsPlan:
    """`grad_norms` of the same parameters' gradients, update after update, without its checks each time.

    A gradient has its parameter's device and dtype, so whether the kernel can read them is found out once. Where they
    lie is taken from each list anew: dropped gradients (`set_to_none`) come back elsewhere, and the kernel's table of
    their addresses takes it less time to fill than a stale one takes to detect.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        """Look at the parameters whose gradients are to be measured."""
        ours = list(parameters)
        plain = all(type(one) in {Tensor, torch.nn.Parameter} and one.dtype in _DTYPES for one in ours)
        self._op: Any = None
        if plain and len({one.device for one in ours}) == 1 and _loader.native(ours[0]):
            self._op = torch.ops.dovetail.grad_norms.default

    def __call__(self, grads: Sequence[Tensor], max_norm: float = math.inf) -> GradNorms:
        """Return the statistics of the gradients of some of the parameters, at least of one: as `grad_norms` does.

        Args:
            grads: None of them is None.
            max_norm: What `clip_coef` would clip the total norm to; > 0.
        """
        if self._op is not None:
            try:
                values, counts = self._op(grads, max_norm)
            except NotImplementedError:  # a sparse gradient
                pass
            else:
                if values.requires_grad:  # those of gradients that are differentiated themselves
                    return GradNorms(values.detach(), counts)
                return GradNorms(values, counts)
        return grad_norms(grads, max_norm)


def grad_norms_reference(grads: Sequence[Tensor], max_norm: float = math.inf) -> GradNorms:
    """The same in plain torch, in many passes over all: the fallback, and the oracle for the kernels' tests."""
    device = grads[0].device if grads else torch.device("cpu")
    if not grads:
        none = torch.zeros(0, dtype=torch.float64, device=device)
        return summed_up(none, none, none.long(), max_norm)
    norms = torch.stack(torch._foreach_norm(list(grads), 2, dtype=torch.float64))  # noqa: SLF001 (torch's own clipping is made of it)
    # An empty tensor has no largest element: a zero stands for it.
    extremes = [torch.aminmax(grad if grad.numel() else grad.new_zeros(1)) for grad in grads]
    low, high = (torch.stack(some).double() for some in zip(*extremes, strict=True))
    max_abs = torch.maximum(-low, high)
    zeros = torch.stack([grad.numel() - torch.count_nonzero(grad) for grad in grads])
    if device.type == "cpu" and bool(max_abs.isfinite().all()):  # looking waits for nothing there
        nans = infs = torch.zeros_like(zeros)
    else:
        nans = torch.stack([torch.count_nonzero(grad.isnan()) for grad in grads])
        infs = torch.stack([torch.count_nonzero(grad.isinf()) for grad in grads])
    return summed_up(norms, max_abs, torch.cat([zeros, nans, infs]), max_norm)


def summed_up(norms: Tensor, max_abs: Tensor, counts: Tensor, max_norm: float) -> GradNorms:
    """The whole result from the statistics of the gradients."""
    total = torch.linalg.vector_norm(norms)
    coefficient = (max_norm / (total + 1e-6)).clamp(max=1.0)
    extremes = [norms.amin(), norms.mean(), norms.amax()] if len(norms) else [total] * 3
    edges = torch.tensor(HISTOGRAM_EDGES, dtype=torch.float64, device=norms.device)
    bins = (~(norms[:, None] < edges)).sum(1)  # NaN counts as large
    histogram = (bins[:, None] == torch.arange(_BINS, device=norms.device)).sum(0)
    summary = torch.stack([total, coefficient, *extremes])
    return GradNorms(torch.cat([norms, max_abs, summary]), torch.cat([counts, histogram]))


def _joined(grads: Sequence[Tensor], places: dict[torch.device, list[int]], max_norm: float) -> GradNorms:
    """Statistics of gradients on several devices, each read on its own, on the device of the first."""
    first = grads[0].device
    order = torch.tensor([position for positions in places.values() for position in positions]).argsort().to(first)
    parts = [grad_norms([grads[position] for position in positions]) for positions in places.values()]

    def rows(name: str) -> Tensor:
        return torch.cat([getattr(part, name).to(first) for part in parts])[order]

    counts = torch.cat([rows("zeros"), rows("nans"), rows("infs")])
    return summed_up(rows("norms"), rows("max_abs"), counts, max_norm)


def _dense(grad: Tensor) -> Tensor:
    """The gradient itself, or the dense one that a sparse one stands for."""
    if grad.layout is torch.strided:
        return grad
    _loader.warn_once(
        "grad_norms makes sparse gradients dense, which takes as much memory as the parameters they belong to"
    )
    return grad.to_dense()


@_loader.fake("grad_norms")
def _fake(grads: Sequence[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001  # the schema's name
    """Shapes and dtypes alone, for torch.compile and torch.export."""
    first, count = grads[0], len(grads)
    return (
        first.new_empty(2 * count + _SUMMARY, dtype=torch.float64),
        first.new_empty(3 * count + _BINS, dtype=torch.int64),
    )
