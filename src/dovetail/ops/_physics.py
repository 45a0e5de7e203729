"""Cross-entropy and three physical terms of class scores, each alone or all in one launch."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.ops import _loader

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_NO_LABEL: Final = -100

# What the op takes: logits, targets, penalties, levels, severity, neighbours, rates, four weights, want_grad.
_Arguments = tuple[Any, ...]


class PhysicalTerms(NamedTuple):
    """What `physical_terms` found: float64 for float64 logits, else float32."""

    #: []: the weighted sum of the terms; the only one with a gradient.
    total: Tensor
    #: [4]: the terms themselves, in the order of the properties.
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
        """[]: temporal smoothness; 0 without windows that follow one another."""
        return self.parts[3]


class Windows(NamedTuple):
    """Which windows of a batch follow one another: what `consecutive` found."""

    #: [N, 2] int64: the window before and the one after, -1 for none.
    neighbours: Tensor
    #: [N] float64: what a squared change since the window before is multiplied by.
    rates: Tensor


def frequency_consistency(logits: Tensor, penalties: Tensor) -> Tensor:
    """The penalty that is to be expected: `mean over n of Σ_c softmax(logits)_nc · penalties_nc`.

    Every class's probability counts, not the likeliest class alone: chosen by argmax, the penalty would have no
    gradient with respect to the logits. With `frequency_penalties`, a class costs something where the signal does not
    carry its fault frequencies.

    Args:
        logits: [N, classes] float16, bfloat16, float32 or float64, any strides. 16 bits are computed in float32.
        penalties: [N, classes]; a gradient reaches them if they require one, and through them the signals.

    Returns:
        [], float64 for float64 logits, else float32, also under autocast; 0 for no samples.

    Raises:
        TypeError: Another dtype.
        ValueError: Shapes or devices that do not fit.
    """
    return physical_terms(logits, penalties=penalties).total


def sommerfeld_consistency(outputs: Tensor, severity: Tensor, levels: Tensor | None = None) -> Tensor:
    """How far the predicted severity is from what the operating conditions let expect: the mean squared difference.

    The severity of class scores is the expectation `Σ_c softmax(outputs)_c · levels_c`; a model may also predict it as
    it is. `sommerfeld_severity` gives what to expect.

    Args:
        outputs: [N, classes] class scores with `levels`; without, [N] or [N, 1] predicted severities.
        severity: [N] that are expected, in the unit of the levels; no gradient reaches it.
        levels: [classes] severity of each class; no gradient reaches it.

    Returns:
        [], float64 for float64 outputs, else float32; 0 for no samples.

    Raises:
        TypeError: Another dtype.
        ValueError: Shapes or devices that do not fit.
    """
    if levels is not None:
        return physical_terms(outputs, severity=severity, levels=levels).total
    _check_dtype(outputs)
    if outputs.shape not in {severity.shape, (*severity.shape, 1)} or severity.ndim != 1:
        found = f"{tuple(outputs.shape)} and {tuple(severity.shape)}"
        raise ValueError(f"predicted severities must be [N] or [N, 1], expected ones [N]; got {found}")
    wide = _real(outputs.dtype)
    difference = outputs.reshape(-1).to(wide) - severity.detach().to(wide)
    return difference.square().sum() / max(len(difference), 1)


def temporal_smoothness(
    logits: Tensor,
    recordings: Tensor | None = None,
    times: Tensor | None = None,
    *,
    time_step: float = 1.0,
) -> Tensor:
    """How much class probabilities change from one window of a recording to the next: the mean squared change.

    `1/M Σ (time_step / Δt)² Σ_c (q_c(t) - q_c(t - Δt))²` over the M windows of which the one before is in the batch:
    a change over a longer time counts for less.

    Args:
        logits: [N, classes], as for `frequency_consistency`.
        recordings: As for `consecutive`.
        times: Likewise.
        time_step: Likewise.

    Returns:
        [], float64 for float64 logits, else float32; 0 where no window follows another.

    Raises:
        TypeError: Another dtype.
        ValueError: Shapes or devices that do not fit.
    """
    windows = consecutive(len(logits), recordings, times, time_step=time_step, device=logits.device)
    return physical_terms(logits, windows=windows).total


def consecutive(
    count: int,
    recordings: Tensor | None = None,
    times: Tensor | None = None,
    *,
    time_step: float = 1.0,
    device: torch.device | str = "cpu",
) -> Windows:
    """Find for each of a batch's windows the one before it in its recording.

    Args:
        count: N, how many windows there are.
        recordings: [N] integers, windows of one number belonging to one recording; by default all of them to one.
        times: [N] when each window begins, in whatever unit; by default they are in order and one `time_step` apart.
            Windows of one time, or of none (NaN), do not follow one another.
        time_step: The time between windows at which a change counts as it is; above 0.
        device: Where the result is to be, if neither recordings nor times are given.

    Raises:
        ValueError: Shapes, devices or numbers that do not fit.
    """
    if not time_step > 0:
        raise ValueError(f"time_step must be above 0, got {time_step:g}")
    for name, tensor in (("recordings", recordings), ("times", times)):
        if tensor is not None and tuple(tensor.shape) != (count,):
            raise ValueError(f"{name} must have shape ({count},), got {tuple(tensor.shape)}")
    place = next((tensor.device for tensor in (recordings, times) if tensor is not None), torch.device(device))
    order = torch.arange(count, device=place)
    if times is not None:
        order = times.argsort(stable=True)
    if recordings is not None:
        order = order[recordings[order].argsort(stable=True)]
    before = torch.cat([order[:1], order[:-1]])
    follows = torch.arange(count, device=place) > 0
    rates = torch.ones(count, dtype=torch.float64, device=place)
    if recordings is not None:
        follows &= recordings[order] == recordings[before]
    if times is not None:
        passed = times[order].double() - times[before].double()
        follows &= passed > 0
        rates = (time_step / passed.where(follows, 1)) ** 2
    previous = torch.empty_like(order).scatter_(0, order, before.where(follows, -1))
    rates = torch.empty_like(rates).scatter_(0, order, rates.where(follows, 0))
    # A window after the last place takes what has nobody after it.
    following = order.new_full((count + 1,), -1).scatter_(0, before.where(follows, count), order.where(follows, -1))
    return Windows(torch.stack([previous, following[:count]], 1), rates)


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
    """Cross-entropy, frequency consistency, Sommerfeld consistency and temporal smoothness, weighted and added up.

    One launch gives the terms and the gradient of their sum. The terms are those of the functions of these names; one
    whose tensors are not given is 0. A NaN in what a term reads makes the term and the total NaN.

    Args:
        logits: [N, classes] float16, bfloat16, float32 or float64, any strides. 16 bits are computed in float32.
        targets: [N] class indices; -100 for no label: such a sample counts for the physics alone.
        penalties: [N, classes]; a gradient reaches them if they require one.
        severity: [N], expected; together with `levels`.
        levels: [classes], the severity of each class.
        windows: Which windows follow one another.
        lambda_classification: Factor of the cross-entropy, a mean over labelled samples.
        lambda_freq: Factor of the frequency consistency, a mean over samples.
        lambda_sommerfeld: Factor of the Sommerfeld consistency, a mean over samples.
        lambda_temporal: Factor of the temporal smoothness, a mean over windows that follow one.

    Raises:
        TypeError: Another dtype.
        ValueError: Shapes or devices that do not fit.
        RuntimeError: On the CPU, a label that is none of the classes; on CUDA it makes the cross-entropy NaN.
    """
    _check_dtype(logits)
    if logits.ndim != 2 or not logits.shape[1]:  # noqa: PLR2004  # [samples, classes]
        raise ValueError(f"logits must be [N, classes], of one class or more, got shape {tuple(logits.shape)}")
    if (severity is None) != (levels is None):
        raise ValueError("severity and levels go together: what is expected, and what each class stands for")
    samples, classes = logits.shape
    wide = _real(logits.dtype)
    neighbours, rates = (None, None) if windows is None else windows
    arguments = (
        logits,
        _fitted("targets", targets, (samples,), logits, torch.int64),
        _fitted("penalties", penalties, (samples, classes), logits, wide),
        _fitted("levels", levels, (classes,), logits, wide, constant=True),
        _fitted("severity", severity, (samples,), logits, wide, constant=True),
        _fitted("windows", neighbours, (samples, 2), logits, torch.int64),
        _fitted("windows", rates, (samples,), logits, wide, constant=True),
        lambda_classification,
        lambda_freq,
        lambda_sommerfeld,
        lambda_temporal,
        torch.is_grad_enabled() and logits.requires_grad,
    )
    if _loader.native(logits):
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
    """The op's total and parts in plain torch, with its arguments: the fallback, and the oracle for its tests."""
    scores = logits.to(_real(logits.dtype))
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
        follows = neighbours[:, 0] >= 0
        steps = (q - q[neighbours[:, 0].clamp(min=0)]).where(follows[:, None], 0)
        terms[3] = (steps.square().sum(1) * rates.where(follows, 0)).sum() / follows.sum().clamp(min=1)
    parts = torch.stack([term.to(scores.dtype) for term in terms])
    return (parts * parts.new_tensor(weights)).sum(), parts


def _real(dtype: torch.dtype) -> torch.dtype:
    """What numbers of a dtype are computed in."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def _check_dtype(outputs: Tensor) -> None:
    if outputs.dtype not in _DTYPES:
        raise TypeError(f"physical terms are of floats of 16, 32 or 64 bits, not {outputs.dtype}")


def _fitted(
    name: str,
    tensor: Tensor | None,
    shape: tuple[int, ...],
    logits: Tensor,
    dtype: torch.dtype,
    *,
    constant: bool = False,
) -> Tensor | None:
    """What the op takes for an argument, once it is known to fit."""
    if tensor is None:
        return None
    same = tensor.dtype is dtype
    if tensor.shape != shape or not (same or _converts(tensor.dtype, dtype)):
        kind = "integers" if dtype is torch.int64 else "numbers"
        raise ValueError(f"{name} must be {kind} of shape {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
    if tensor.device != logits.device:
        raise ValueError(f"{name} must be on {logits.device}, where the logits are, not on {tensor.device}")
    if constant and tensor.requires_grad:
        tensor = tensor.detach()
    return tensor if same else tensor.to(dtype)


def _converts(found: torch.dtype, wanted: torch.dtype) -> bool:
    """Whether numbers of one dtype may be given for another: any reals for reals, integers for integers."""
    return not (found.is_complex or (wanted is torch.int64 and found.is_floating_point))


@_loader.fake("physical_terms")
def _fake(logits: Tensor, *arguments: Any, **keywords: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and dtypes alone, for torch.compile and torch.export."""
    want_grad = keywords.get("want_grad", arguments[-1] if arguments else False)
    dtype = _real(logits.dtype)
    rows = logits.shape[0] if want_grad else 0
    return (
        logits.new_empty((), dtype=dtype),
        logits.new_empty(4, dtype=dtype),
        logits.new_empty(rows, logits.shape[1], dtype=dtype),
    )


def _keep(ctx: Any, inputs: _Arguments, output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, _, _, _, _, _ = inputs
    _, parts, grad = output
    ctx.mark_non_differentiable(parts, grad)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, grad)
    ctx.weights = inputs[-5:-1]


def _backward(ctx: Any, grad_total: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    """The gradient that came with the terms; by the reference where it is itself to be differentiated."""
    if grad_total is None:
        return (None,) * 12
    logits, targets, penalties, *rest, grad = ctx.saved_tensors
    of_logits, _, of_penalties, *_ = ctx.needs_input_grad
    if torch.is_grad_enabled():
        total = physical_terms_reference(logits, targets, penalties, *rest, *ctx.weights)[0]
        wanted = [one for one, needed in ((logits, of_logits), (penalties, of_penalties)) if needed]
        found = list(torch.autograd.grad(total, wanted, grad_total, create_graph=True, allow_unused=True))
        by_penalties = found.pop() if of_penalties else None
        return found.pop() if of_logits else None, None, by_penalties, *[None] * 9
    by_logits, by_penalties = None, None
    if of_logits:
        by_logits = grad * grad_total
        if by_logits.dtype is not logits.dtype:
            by_logits = by_logits.to(logits.dtype)
    if of_penalties:
        scale = grad_total * ctx.weights[1] / max(len(logits), 1)
        by_penalties = logits.to(penalties.dtype).softmax(1) * scale
    return by_logits, None, by_penalties, *[None] * 9


_loader.differentiable("physical_terms", _backward, _keep)
