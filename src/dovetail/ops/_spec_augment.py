"""`spec_augment` and `spec_augment_`: masks over time and frequency, drawn for each sample."""

from __future__ import annotations

from typing import Any, Final, Literal

import torch
from torch import Tensor

from dovetail.ops import _loader

#: Of both kinds together, for one sample; max_masks in csrc/spec_augment/spec_augment.h is the same.
MAX_MASKS: Final = 64

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_INTEGERS: Final = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})

# What the op takes: input [N, C, F, T], uniforms, lengths, fills [N, C], time_masks, freq_mask, time_mask,
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
    """SpecAugment's masks: in every sample, whole bands of frequencies and whole stretches of time get one value.

    A mask has a width of 0 to W places, each width as likely, and starts anywhere it fits, each start as likely:
    `width = floor(u1 · (W + 1))`, `start = floor(u2 · (extent - width + 1))` from its pair (u1, u2) of uniform numbers,
    in float64. For masks over frequencies, W is `freq_mask_param` and the extent F. For masks over time the extent is
    the sample's length, and W the least of `time_mask_param` and what the masks before it left of
    `max_time_share · length`. All channels of a sample get the same masks. Padding is never written to. Masks depend
    on nothing but the sample's numbers: they are the same on every device, in any dtype and in any batch.

    The gradient is that of the places that are kept, with 0 at the masked ones: a fill value counts as a constant, the
    mean as well. Under autocast the op keeps its input's dtype.

    Args:
        spectrograms: [N, F, T] or [N, C, F, T]; float16, bfloat16, float32 or float64, any strides.
        uniforms: [N, num_freq_masks + num_time_masks, 2] float32 in [0, 1), on the same device: those of frequencies
            first. `dovetail.random.uniform(seed, epoch, indices, "spec_augment", (4, 2))` draws them by address.
            Numbers outside are taken to the nearest end, NaN to 0.
        lengths: [N] integers, on the same device: how many steps of time are not padding; by default all T.
        time_mask_param: The widest mask over time, in steps; ≥ 0.
        freq_mask_param: The widest mask over frequencies, in bins; ≥ 0.
        num_time_masks: Masks over time; ≥ 0.
        num_freq_masks: Masks over frequencies; ≥ 0. At most 64 of both kinds together.
        max_time_share: The share of a sample's length that all its masks over time together may cover; 0 to 1.
        fill: The value at masked places; "mean" for the mean of the sample's channel without its padding.
        out: Where to write the result: a tensor of the input's shape, dtype and device, used again from batch to batch.
            A new one of many megabytes costs more than the masking: the system hands it out page by page. It takes
            part in no gradient.

    Returns:
        `out`, or a new contiguous tensor of the input's shape and dtype.

    Raises:
        TypeError: Another dtype.
        ValueError: Shapes, devices or numbers that do not fit.
        RuntimeError: With `out`, the input or `out` requires a gradient.

    Source:
        Park et al.: SpecAugment: A simple data augmentation method for automatic speech recognition (Interspeech 2019),
        without its time warping. There, widths stay below W; here, W itself can come up.
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
        return _into(out, spectrograms, arguments)
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
    """`spec_augment` in place: writes the masked places alone and reads nothing, unless the fill is the mean.

    Where a gradient has to pass, and for a view that torch negates lazily, the result is made beside the input and
    copied into it.

    Args:
        spectrograms: As for `spec_augment`, no two elements at one place in memory (as `expand` makes them).
        uniforms: As for `spec_augment`, and so the rest.
        lengths: Likewise.
        time_mask_param: Likewise.
        freq_mask_param: Likewise.
        num_time_masks: Likewise.
        num_freq_masks: Likewise.
        max_time_share: Likewise.
        fill: Likewise.

    Returns:
        `spectrograms`.

    Raises:
        TypeError: Another dtype.
        ValueError: Shapes, devices or numbers that do not fit; an expanded tensor.
        RuntimeError: From torch: a leaf that requires a gradient.
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
    _refuse_expanded(arguments[0])
    if torch.is_grad_enabled() and spectrograms.requires_grad:
        masked = _masked(arguments)
        return spectrograms.copy_(masked.view(spectrograms.shape))
    return _write_masks(spectrograms, arguments)


def _masked(arguments: _Arguments) -> Tensor:
    """The result beside the input, [N, C, F, T]."""
    native = _loader.native(arguments[0])
    masked: Tensor = _loader.call("spec_augment", *arguments) if native else spec_augment_reference(*arguments)
    return masked


def _write_masks(spectrograms: Tensor, arguments: _Arguments) -> Tensor:
    """The masked places of a tensor that takes part in no gradient; `arguments` begin with a view of it."""
    native, compiling = _loader.native(spectrograms), torch.compiler.is_compiling()
    if not native or (not compiling and spectrograms.is_neg()):
        return spectrograms.copy_(_masked(arguments).view(spectrograms.shape))
    torch.ops.dovetail.spec_augment_(*arguments)
    if not (compiling or spectrograms.is_inference()):
        # A kernel of the stable ABI does not tell autograd that it wrote to its input; compiled code does.
        torch.autograd.graph.increment_version(spectrograms)
    return spectrograms


def _into(out: Tensor, spectrograms: Tensor, arguments: _Arguments) -> Tensor:
    """A copy of the input in `out`, with the masks written over it: they are few beside the rest."""
    if out.shape != spectrograms.shape or out.dtype != spectrograms.dtype or out.device != spectrograms.device:
        wanted = f"{spectrograms.dtype} {tuple(spectrograms.shape)} on {spectrograms.device}"
        raise ValueError(f"out must be {wanted}, got {out.dtype} {tuple(out.shape)} on {out.device}")
    if torch.is_grad_enabled() and (spectrograms.requires_grad or out.requires_grad):
        raise RuntimeError("spec_augment with out takes part in no gradient: leave out away, or use torch.no_grad()")
    _refuse_expanded(out)
    out.copy_(spectrograms)
    return _write_masks(out, (out.unsqueeze(1) if out.ndim < arguments[0].ndim else out, *arguments[1:]))


def _refuse_expanded(tensor: Tensor) -> None:
    if any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        raise ValueError("spec_augment_ cannot write to an expanded tensor, whose elements share places; clone first")


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
    """The op in plain torch, with the op's arguments: the fallback, and the kernels' equal bit for bit."""
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
    """[N] starts and ends, from [N, 2] uniform numbers in float64."""
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
    """What the op takes, once it is known to fit."""
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
        raise ValueError(f"spec_augment draws at most {MAX_MASKS} masks for a sample, got {masks}")
    if not 0 <= max_time_share <= 1:
        raise ValueError(f"max_time_share must be between 0 and 1, got {max_time_share}")


def _check_tensors(spectrograms: Tensor, uniforms: Tensor, lengths: Tensor | None, masks: int) -> None:
    if spectrograms.dtype not in _DTYPES:
        raise TypeError(f"spec_augment takes floats of 16, 32 or 64 bits, not {spectrograms.dtype}")
    if spectrograms.ndim not in {3, 4}:
        raise ValueError(f"spectrograms must be [N, F, T] or [N, C, F, T], got shape {tuple(spectrograms.shape)}")
    wanted = (len(spectrograms), masks, 2)
    if uniforms.shape != wanted or uniforms.dtype is not torch.float32:
        found = f"{uniforms.dtype} {tuple(uniforms.shape)}"
        raise ValueError(f"uniforms must be torch.float32 {wanted} for these masks, got {found}")
    if lengths is not None and (lengths.shape != wanted[:1] or lengths.dtype not in _INTEGERS):
        found = f"{lengths.dtype} {tuple(lengths.shape)}"
        raise ValueError(f"lengths must be integers, one for each of {len(spectrograms)} samples, got {found}")
    place = spectrograms.device
    for name, tensor in (("uniforms", uniforms), ("lengths", lengths)):
        if tensor is not None and tensor.device != place:
            raise ValueError(f"{name} must be on {place}, where the spectrograms are, not on {tensor.device}")


@torch.no_grad()
def _means(pictures: Tensor, lengths: Tensor | None) -> Tensor:
    """[N, C] means of what is not padding, added up in float64."""
    if lengths is None:
        return pictures.mean((2, 3), dtype=torch.float64).to(pictures.dtype)
    frequencies, times = pictures.shape[2:]
    valid = torch.arange(times, device=pictures.device) < lengths[:, None]
    total = torch.where(valid[:, None, None], pictures, 0).sum((2, 3), dtype=torch.float64)
    count = lengths.clamp(0, times) * frequencies
    return (total / count[:, None]).to(pictures.dtype)


@_loader.fake("spec_augment")
def _fake(pictures: Tensor, *_: Any) -> Tensor:
    """Shape and dtype alone, for torch.compile and torch.export."""
    return pictures.new_empty(pictures.shape)


@_loader.fake("spec_augment_")
def _fake_in_place(*_: Any) -> None:
    """Nothing comes back."""


def _keep(ctx: Any, inputs: _Arguments, output: Tensor) -> None:  # noqa: ARG001  # torch's signature
    _, uniforms, lengths, _, *numbers, _ = inputs
    ctx.save_for_backward(uniforms, lengths)
    ctx.numbers = numbers


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The same masks on the gradient, with 0; being the op itself, it can be differentiated again."""
    uniforms, lengths = ctx.saved_tensors
    masked = torch.ops.dovetail.spec_augment(grad, uniforms, lengths, None, *ctx.numbers, 0.0)
    return masked, *[None] * 8


_loader.differentiable("spec_augment", _backward, _keep)
