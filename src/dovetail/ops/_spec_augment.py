"""`spec_augment` and `spec_augment_`: random masks over time and frequency for each sample."""

from __future__ import annotations

from typing import Any, Final, Literal

import torch
from torch import Tensor

from dovetail.ops import _loader

#: The largest number of masks per sample, of both kinds; the same as in csrc/spec_augment/spec_augment.h.
MAX_MASKS: Final = 64

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_INTEGERS: Final = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})

# The arguments of the op: input [N, C, F, T], uniforms, lengths, fills [N, C], time_masks, freq_mask, time_mask,
# max_time_share, fill.
_Arguments = tuple[Tensor, Tensor, Tensor | None, Tensor | None, int, int, int, float, float]


def spec_augment(
    spectrograms: Tensor,
    uniforms: Tensor,
    *,
    lengths: Tensor | None = None,
    time_mask_param: int = 40,
    freq_mask_param: int = 20,
    num_time_masks: int = 2,
    num_freq_masks: int = 2,
    max_time_share: float = 1.0,
    fill: float | Literal["mean"] = 0.0,
    out: Tensor | None = None,
) -> Tensor:
    """Return spectrograms with SpecAugment's masks: bands of frequencies and intervals of time set to a fill value.

    The width of a mask is uniform from 0 to W and its start uniform over all positions where it fits:
    `width = floor(u1 · (W + 1))`, `start = floor(u2 · (extent - width + 1))` in float64, where (u1, u2) is the mask's
    pair of uniform numbers. For frequency masks, W is `freq_mask_param` and the extent F. For time masks, the extent is
    the sample's length, and W the minimum of `time_mask_param` and what earlier masks left of
    `max_time_share · length`. All channels of a sample get the same masks; padding is never written. Masks depend only
    on the sample's numbers: they are the same on every device, in any dtype and in any batch.

    The gradient is 0 at masked positions and unchanged elsewhere; the fill value is a constant, also if it is the mean.
    Under autocast the op keeps its input's dtype.

    Args:
        spectrograms: [N, F, T] or [N, C, F, T]; float16, bfloat16, float32 or float64, any strides.
        uniforms: [N, num_freq_masks + num_time_masks, 2] float32 in [0, 1) on the same device, those for
            frequency masks first. `dovetail.random.uniform(seed, epoch, indices, "spec_augment", (4, 2))` draws them by
            address. Numbers out of range are clamped; NaN counts as 0.
        lengths: [N] integers on the same device, the numbers of time steps without padding; by default T.
        time_mask_param: The largest width of a time mask in steps; ≥ 0.
        freq_mask_param: The largest width of a frequency mask in bins; ≥ 0.
        num_time_masks: The number of time masks; ≥ 0.
        num_freq_masks: The number of frequency masks; ≥ 0. At most 64 of both kinds.
        max_time_share: The largest fraction of a sample's length that its time masks may cover in total; 0 to 1.
        fill: The value at masked positions; "mean" for the mean of the sample's channel without padding.
        out: The tensor for the result, of the input's shape, dtype and device. Reuse it from batch to batch: allocating
            many megabytes takes longer than the masking. Not supported if a gradient is required.

    Returns:
        `out`, or a new contiguous tensor of the input's shape and dtype.

    Raises:
        TypeError: The dtype of the spectrograms is not supported.
        ValueError: Shapes, devices or numbers are invalid.
        RuntimeError: With `out`, the input or `out` requires a gradient.

    Source:
        Park et al.: SpecAugment: A simple data augmentation method for automatic speech recognition (Interspeech 2019),
        without its time warping. There, widths are below W; here, W is included.
    """
    arguments = _arguments(
        spectrograms,
        uniforms,
        lengths,
        time_mask_param=time_mask_param,
        freq_mask_param=freq_mask_param,
        num_time_masks=num_time_masks,
        num_freq_masks=num_freq_masks,
        max_time_share=max_time_share,
        fill=fill,
    )
    if out is not None:
        return _write_to(out, spectrograms, arguments)
    masked = _masked(arguments)
    return masked if spectrograms.ndim == masked.ndim else masked.squeeze(1)


def spec_augment_(
    spectrograms: Tensor,
    uniforms: Tensor,
    *,
    lengths: Tensor | None = None,
    time_mask_param: int = 40,
    freq_mask_param: int = 20,
    num_time_masks: int = 2,
    num_freq_masks: int = 2,
    max_time_share: float = 1.0,
    fill: float | Literal["mean"] = 0.0,
) -> Tensor:
    """Apply `spec_augment` in place: write only masked positions, and read only for the fill "mean".

    If a gradient is required, or the input is a lazily negated view, the op computes a new tensor and copies it.

    Args:
        spectrograms: As for `spec_augment`, but not an expanded tensor, whose elements share memory.
        uniforms: As for `spec_augment`, like the other arguments.
        lengths: As for `spec_augment`.
        time_mask_param: As for `spec_augment`.
        freq_mask_param: As for `spec_augment`.
        num_time_masks: As for `spec_augment`.
        num_freq_masks: As for `spec_augment`.
        max_time_share: As for `spec_augment`.
        fill: As for `spec_augment`.

    Returns:
        `spectrograms`.

    Raises:
        TypeError: The dtype of the spectrograms is not supported.
        ValueError: Shapes, devices or numbers are invalid, or the tensor is expanded.
        RuntimeError: From torch, for a leaf that requires a gradient.
    """
    arguments = _arguments(
        spectrograms,
        uniforms,
        lengths,
        time_mask_param=time_mask_param,
        freq_mask_param=freq_mask_param,
        num_time_masks=num_time_masks,
        num_freq_masks=num_freq_masks,
        max_time_share=max_time_share,
        fill=fill,
    )
    _check_not_expanded(arguments[0])
    if torch.is_grad_enabled() and spectrograms.requires_grad:
        masked = _masked(arguments)
        return spectrograms.copy_(masked.view(spectrograms.shape))
    return _write_masks(spectrograms, arguments)


def _masked(arguments: _Arguments) -> Tensor:
    """Return a new masked tensor, [N, C, F, T]."""
    native = _loader.is_native(arguments[0])
    masked: Tensor = _loader.call("spec_augment", *arguments) if native else spec_augment_reference(*arguments)
    return masked


def _write_masks(spectrograms: Tensor, arguments: _Arguments) -> Tensor:
    """Write the masks to a tensor without gradient; the first of `arguments` is a view of it."""
    native, compiling = _loader.is_native(spectrograms), torch.compiler.is_compiling()
    if not native or (not compiling and spectrograms.is_neg()):
        return spectrograms.copy_(_masked(arguments).view(spectrograms.shape))
    torch.ops.dovetail.spec_augment_(*arguments)
    if not (compiling or spectrograms.is_inference()):
        # A kernel of the stable ABI does not increment the version of its input; compiled code does.
        torch.autograd.graph.increment_version(spectrograms)
    return spectrograms


def _write_to(out: Tensor, spectrograms: Tensor, arguments: _Arguments) -> Tensor:
    """Copy the input to `out`, and write the masks over the copy."""
    if out.shape != spectrograms.shape or out.dtype != spectrograms.dtype or out.device != spectrograms.device:
        required = f"{spectrograms.dtype} {tuple(spectrograms.shape)} on {spectrograms.device}"
        raise ValueError(f"out must be {required}, got {out.dtype} {tuple(out.shape)} on {out.device}")
    if torch.is_grad_enabled() and (spectrograms.requires_grad or out.requires_grad):
        raise RuntimeError("spec_augment does not support gradients with out; omit out, or use torch.no_grad()")
    _check_not_expanded(out)
    out.copy_(spectrograms)
    return _write_masks(out, (out.unsqueeze(1) if out.ndim < arguments[0].ndim else out, *arguments[1:]))


def _check_not_expanded(tensor: Tensor) -> None:
    if any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        raise ValueError(
            "spec_augment_ cannot write to an expanded tensor, whose elements share memory; clone it first"
        )


def spec_augment_reference(  # noqa: PLR0917  # the op's own arguments
    pictures: Tensor,
    uniforms: Tensor,
    lengths: Tensor | None,
    fills: Tensor | None,
    time_masks: int,
    freq_mask: int,
    time_mask: int,
    max_time_share: float,
    fill: float,
) -> Tensor:
    """Compute the op in plain torch, with its arguments: the fallback, equal to the kernels bit for bit."""
    samples, _, frequencies, times = pictures.shape
    at_frequency = torch.arange(frequencies, device=pictures.device)
    at_time = torch.arange(times, device=pictures.device)
    masked_frequencies = torch.zeros(samples, frequencies, dtype=torch.bool, device=pictures.device)
    masked_times = torch.zeros(samples, times, dtype=torch.bool, device=pictures.device)
    extent = torch.full((samples,), frequencies, device=pictures.device)
    valid = torch.full_like(extent, times) if lengths is None else lengths.clamp(0, times)
    budget = (max_time_share * valid.double()).long()
    pairs = torch.where(uniforms > 0, uniforms, 0).double().unbind(1)
    freq_masks = len(pairs) - time_masks
    for pair in pairs[:freq_masks]:
        start, end = _span(pair, extent.clamp(max=freq_mask), extent)
        masked_frequencies |= (at_frequency >= start[:, None]) & (at_frequency < end[:, None])
    for pair in pairs[freq_masks:]:
        start, end = _span(pair, budget.clamp(max=time_mask), valid)
        masked_times |= (at_time >= start[:, None]) & (at_time < end[:, None])
        budget -= end - start
    masked = masked_frequencies[:, :, None] | masked_times[:, None, :]
    masked &= (at_time < valid[:, None])[:, None, :]
    if fills is None:
        fills = torch.tensor(fill, dtype=pictures.dtype, device=pictures.device).expand(1, 1)
    return torch.where(masked[:, None], fills[:, :, None, None], pictures).contiguous()


def _span(pair: Tensor, widest: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Return [N] starts and ends of masks from [N, 2] uniform numbers in float64."""
    width = torch.minimum(pair[:, 0] * (widest + 1), widest.double()).long()
    last = extent - width
    start = torch.minimum(pair[:, 1] * (last + 1), last.double()).long()
    return start, start + width


def _arguments(
    spectrograms: Tensor,
    uniforms: Tensor,
    lengths: Tensor | None,
    *,
    time_mask_param: int,
    freq_mask_param: int,
    num_time_masks: int,
    num_freq_masks: int,
    max_time_share: float,
    fill: float | Literal["mean"],
) -> _Arguments:
    """Check the arguments, and return those of the op."""
    _check_numbers(
        max_time_share,
        time_mask_param=time_mask_param,
        freq_mask_param=freq_mask_param,
        num_time_masks=num_time_masks,
        num_freq_masks=num_freq_masks,
    )
    _check_tensors(spectrograms, uniforms, lengths, num_freq_masks + num_time_masks)
    lengths = None if lengths is None else lengths.long()
    pictures = spectrograms.unsqueeze(1) if spectrograms.ndim == 3 else spectrograms  # noqa: PLR2004  # [N, F, T]
    fills, value = (_means(pictures, lengths), 0.0) if fill == "mean" else (None, float(fill))
    return pictures, uniforms, lengths, fills, num_time_masks, freq_mask_param, time_mask_param, max_time_share, value


def _check_numbers(max_time_share: float, **counts: int) -> None:
    for name, number in counts.items():
        if number < 0:
            raise ValueError(f"{name} must be at least 0, got {number}")
    masks = counts["num_freq_masks"] + counts["num_time_masks"]
    if masks > MAX_MASKS:
        raise ValueError(f"spec_augment supports at most {MAX_MASKS} masks per sample, got {masks}")
    if not 0 <= max_time_share <= 1:
        raise ValueError(f"max_time_share must be between 0 and 1, got {max_time_share}")


def _check_tensors(spectrograms: Tensor, uniforms: Tensor, lengths: Tensor | None, masks: int) -> None:
    if spectrograms.dtype not in _DTYPES:
        raise TypeError(f"spec_augment takes float16, bfloat16, float32 or float64, not {spectrograms.dtype}")
    if spectrograms.ndim not in {3, 4}:
        raise ValueError(f"spectrograms must be [N, F, T] or [N, C, F, T], got shape {tuple(spectrograms.shape)}")
    shape = (len(spectrograms), masks, 2)
    if uniforms.shape != shape or uniforms.dtype is not torch.float32:
        actual = f"{uniforms.dtype} {tuple(uniforms.shape)}"
        raise ValueError(f"uniforms must be torch.float32 {shape} for these masks, got {actual}")
    if lengths is not None and (lengths.shape != shape[:1] or lengths.dtype not in _INTEGERS):
        actual = f"{lengths.dtype} {tuple(lengths.shape)}"
        raise ValueError(f"lengths must be integers, one for each of {len(spectrograms)} samples, got {actual}")
    device = spectrograms.device
    for name, tensor in (("uniforms", uniforms), ("lengths", lengths)):
        if tensor is not None and tensor.device != device:
            raise ValueError(f"{name} must be on {device}, the device of the spectrograms, not on {tensor.device}")


@torch.no_grad()
def _means(pictures: Tensor, lengths: Tensor | None) -> Tensor:
    """Return [N, C] means without padding, summed in float64."""
    if lengths is None:
        return pictures.mean((2, 3), dtype=torch.float64).to(pictures.dtype)
    frequencies, times = pictures.shape[2:]
    valid = torch.arange(times, device=pictures.device) < lengths[:, None]
    total = torch.where(valid[:, None, None], pictures, 0).sum((2, 3), dtype=torch.float64)
    count = lengths.clamp(0, times) * frequencies
    return (total / count[:, None]).to(pictures.dtype)


@_loader.fake("spec_augment")
def _fake(pictures: Tensor, *_: Any) -> Tensor:
    """Return the shape and dtype for torch.compile and torch.export."""
    return pictures.new_empty(pictures.shape)


@_loader.fake("spec_augment_")
def _fake_in_place(*_: Any) -> None:
    """Return nothing, as the op does."""


def _setup_context(ctx: Any, inputs: _Arguments, output: Tensor) -> None:  # noqa: ARG001  # torch's signature
    _, uniforms, lengths, _, *numbers, _ = inputs
    ctx.save_for_backward(uniforms, lengths)
    ctx.numbers = numbers


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Apply the same masks to the gradient with fill 0; as an op, it is differentiable itself."""
    uniforms, lengths = ctx.saved_tensors
    masked = torch.ops.dovetail.spec_augment(grad, uniforms, lengths, None, *ctx.numbers, 0.0)
    return masked, *[None] * 8


_loader.register_autograd("spec_augment", _backward, _setup_context)
