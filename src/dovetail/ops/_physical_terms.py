"""`physical_terms`: cross-entropy and three physical terms of class logits in one launch."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.ops import _loader

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_NO_LABEL: Final = -100

# The arguments of the op: logits, targets, penalties, levels, severity, neighbours, rates, four weights, want_grad.
_Arguments = tuple[Any, ...]


class PhysicalTerms(NamedTuple):
    """The result of `physical_terms`: float64 for float64 logits, else float32."""

    #: []: the weighted sum of the terms; only the total has a gradient.
    total: Tensor
    #: [4]: the terms, in the order of the properties.
    parts: Tensor

    @property
    def classification(self) -> Tensor:
        """[]: cross-entropy; 0 without labels."""
        return self.parts[0]

    @property
    def frequency(self) -> Tensor:
        """[]: frequency consistency; 0 without penalties."""
        return self.parts[1]

    @property
    def sommerfeld(self) -> Tensor:
        """[]: Sommerfeld consistency; 0 without an expected severity."""
        return self.parts[2]

    @property
    def temporal(self) -> Tensor:
        """[]: temporal smoothness; 0 without consecutive windows."""
        return self.parts[3]


class Windows(NamedTuple):
    """The consecutive windows of a batch, as returned by `consecutive`."""

    #: [N, 2] int64: the previous and the next window, -1 for none.
    neighbours: Tensor
    #: [N] float64: the factor of the squared change since the previous window.
    rates: Tensor


def physical_terms(
    logits: Tensor,
    targets: Tensor | None = None,
    *,
    penalties: Tensor | None = None,
    severity: Tensor | None = None,
    levels: Tensor | None = None,
    windows: Windows | None = None,
    lambda_classification: float = 1.0,
    lambda_freq: float = 1.0,
    lambda_sommerfeld: float = 1.0,
    lambda_temporal: float = 1.0,
) -> PhysicalTerms:
    """Return the weighted sum of cross-entropy and the frequency, Sommerfeld and temporal terms.

    One launch computes the terms and the gradient of their sum. The functions of the same names define the terms; a
    term without its tensors is 0. NaN in the inputs of a term makes the term and the total NaN.

    Args:
        logits: [N, classes] float16, bfloat16, float32 or float64, any strides. 16-bit logits are
            computed in float32.
        targets: [N] class indices; -100 for an unlabelled sample, which counts only in the physical terms.
        penalties: [N, classes]; a gradient reaches them if they require one.
        severity: [N] expected severities; requires `levels`.
        levels: [classes] severities of the classes; requires `severity`.
        windows: The consecutive windows of the batch.
        lambda_classification: Factor of the cross-entropy, a mean over labelled samples.
        lambda_freq: Factor of the frequency consistency, a mean over samples.
        lambda_sommerfeld: Factor of the Sommerfeld consistency, a mean over samples.
        lambda_temporal: Factor of the temporal smoothness, a mean over pairs of consecutive windows.

    Raises:
        TypeError: The dtype of the logits is not supported.
        ValueError: Shapes, dtypes or devices do not match.
        RuntimeError: On the CPU, a label is not a class; on CUDA, such a label makes the cross-entropy NaN.
    """
    check_dtype(logits)
    if logits.ndim != 2 or not logits.shape[1]:  # noqa: PLR2004  # [samples, classes]
        raise ValueError(f"logits must be [N, classes] with at least one class, got shape {tuple(logits.shape)}")
    if (severity is None) != (levels is None):
        raise ValueError("severity and levels must be passed together: expected severities, and those of the classes")
    samples, classes = logits.shape
    wide = compute_dtype(logits.dtype)
    neighbours, rates = (None, None) if windows is None else windows
    arguments = (
        logits,
        _converted("targets", targets, (samples,), logits, torch.int64),
        _converted("penalties", penalties, (samples, classes), logits, wide),
        _converted("levels", levels, (classes,), logits, wide, constant=True),
        _converted("severity", severity, (samples,), logits, wide, constant=True),
        _converted("windows", neighbours, (samples, 2), logits, torch.int64),
        _converted("windows", rates, (samples,), logits, wide, constant=True),
        lambda_classification,
        lambda_freq,
        lambda_sommerfeld,
        lambda_temporal,
        torch.is_grad_enabled() and logits.requires_grad,
    )
    if _loader.is_native(logits):
        total, parts, _ = _loader.call("physical_terms", *arguments)
    else:
        total, parts = physical_terms_reference(*arguments[:-1])
        parts = parts.detach()
    return PhysicalTerms(total, parts)


def physical_terms_reference(  # noqa: PLR0917  # the op's own arguments
    logits: Tensor,
    targets: Tensor | None,
    penalties: Tensor | None,
    levels: Tensor | None,
    severity: Tensor | None,
    neighbours: Tensor | None,
    rates: Tensor | None,
    *weights: float,
) -> tuple[Tensor, Tensor]:
    """Compute total and parts in plain torch: the fallback, and the oracle for tests of the kernels."""
    scores = logits.to(compute_dtype(logits.dtype))
    q = scores.softmax(1)
    zero = scores.new_zeros(())
    samples = max(len(logits), 1)
    terms = [zero] * 4
    if targets is not None:
        count = (targets != _NO_LABEL).sum().clamp(min=1)
        terms[0] = F.cross_entropy(scores, targets, ignore_index=_NO_LABEL, reduction="sum") / count
    if penalties is not None:
        terms[1] = (q * penalties).sum() / samples
    if levels is not None and severity is not None:
        terms[2] = (q @ levels - severity).square().sum() / samples
    if neighbours is not None and rates is not None:
        has_previous = neighbours[:, 0] >= 0
        steps = (q - q[neighbours[:, 0].clamp(min=0)]).where(has_previous[:, None], 0)
        terms[3] = (steps.square().sum(1) * rates.where(has_previous, 0)).sum() / has_previous.sum().clamp(min=1)
    parts = torch.stack([term.to(scores.dtype) for term in terms])
    return (parts * parts.new_tensor(weights)).sum(), parts


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which the terms of logits of ``dtype`` are computed."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def check_dtype(outputs: Tensor) -> None:
    """Raise TypeError unless the terms support the dtype of ``outputs``."""
    if outputs.dtype not in _DTYPES:
        raise TypeError(f"physical terms take float16, bfloat16, float32 or float64, not {outputs.dtype}")


def _converted(
    name: str,
    tensor: Tensor | None,
    shape: tuple[int, ...],
    logits: Tensor,
    dtype: torch.dtype,
    *,
    constant: bool = False,
) -> Tensor | None:
    """Check an argument against the logits, and return it in the dtype that the op takes.

    Raises:
        ValueError: Shape, dtype or device do not match.
    """
    if tensor is None:
        return None
    has_dtype = tensor.dtype is dtype
    if tensor.shape != shape or not (has_dtype or _is_convertible(tensor.dtype, dtype)):
        kind = "integers" if dtype is torch.int64 else "numbers"
        raise ValueError(f"{name} must be {kind} of shape {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
    if tensor.device != logits.device:
        raise ValueError(f"{name} must be on {logits.device}, the device of the logits, not on {tensor.device}")
    if constant and tensor.requires_grad:
        tensor = tensor.detach()
    return tensor if has_dtype else tensor.to(dtype)


def _is_convertible(dtype: torch.dtype, to: torch.dtype) -> bool:
    """Return whether a dtype may be converted implicitly: reals to reals, integers to integers."""
    return not (dtype.is_complex or (to is torch.int64 and dtype.is_floating_point))


@_loader.fake("physical_terms")
def _fake(logits: Tensor, *arguments: Any, **keywords: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shapes and dtypes for torch.compile and torch.export."""
    want_grad = keywords.get("want_grad", arguments[-1] if arguments else False)
    dtype = compute_dtype(logits.dtype)
    rows = logits.shape[0] if want_grad else 0
    return (
        logits.new_empty((), dtype=dtype),
        logits.new_empty(4, dtype=dtype),
        logits.new_empty(rows, logits.shape[1], dtype=dtype),
    )


def _setup_context(ctx: Any, inputs: _Arguments, output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, _, _, _, _, _ = inputs
    _, parts, grad = output
    ctx.mark_non_differentiable(parts, grad)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, grad)
    ctx.weights = inputs[-5:-1]


def _backward(ctx: Any, grad_total: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    """Scale the gradient from the forward, or use the reference if the gradient must be differentiable."""
    if grad_total is None:
        return (None,) * 12
    logits, targets, penalties, *rest, grad = ctx.saved_tensors
    of_logits, _, of_penalties, *_ = ctx.needs_input_grad
    if torch.is_grad_enabled():
        total = physical_terms_reference(logits, targets, penalties, *rest, *ctx.weights)[0]
        sources = [tensor for tensor, needed in ((logits, of_logits), (penalties, of_penalties)) if needed]
        grads = list(torch.autograd.grad(total, sources, grad_total, create_graph=True, allow_unused=True))
        by_penalties = grads.pop() if of_penalties else None
        return grads.pop() if of_logits else None, None, by_penalties, *[None] * 9
    by_logits, by_penalties = None, None
    if of_logits:
        by_logits = grad * grad_total
        if by_logits.dtype is not logits.dtype:
            by_logits = by_logits.to(logits.dtype)
    if of_penalties:
        scale = grad_total * ctx.weights[1] / max(len(logits), 1)
        by_penalties = logits.to(penalties.dtype).softmax(1) * scale
    return by_logits, None, by_penalties, *[None] * 9


_loader.register_autograd("physical_terms", _backward, _setup_context)
