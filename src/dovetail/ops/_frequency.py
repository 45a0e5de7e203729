"""`frequency_penalties`: the penalty of each class whose expected frequencies are weak in a signal's spectrum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
from attrs import frozen
from torch import Tensor

from dovetail.ops import _loader

#: The largest number of bands of one class, and of all classes; the same as in csrc/physics/frequency.h.
MAX_BANDS: Final = 64
MAX_ALL_BANDS: Final = 1024

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_NEUTRAL: Final = 0.5
_SECONDS: Final = 60.0  # per minute: speeds are in revolutions per minute, frequencies per second

# The arguments of the op: spectrum [N, M, K, 2], bands, ends, rpm, healthy, bin_width, length.
_Arguments = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, float, int]


@frozen(eq=False)
class Bands:
    """The frequency bands of each class, as returned by `bands_around`.

    Attributes:
        edges: [bands, 4] float64: low and high edge in Hz, then low and high edge in Hz per rpm of the shaft. An edge
            is the sum of both, so a band can be fixed, proportional to the speed, or a mixture.
        ends: [classes + 1] int64: the index of the first band of each class, then the number of bands.
    """

    edges: Tensor
    ends: Tensor

    def to(self, device: torch.device | str) -> Bands:
        """Return the bands on another device."""
        return Bands(self.edges.to(device), self.ends.to(device))

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.ends) - 1

    @property
    def need_speed(self) -> bool:
        """Whether a band depends on the speed of the shaft; synchronises with the device."""
        return bool(self.edges[:, 2:].any())


def bands_around(
    frequencies: Sequence[Sequence[float]],
    *,
    unit: Literal["hz", "orders"] = "hz",
    harmonics: int = 1,
    tolerance: float = 0.1,
    fixed: Sequence[Sequence[tuple[float, float]]] = (),
) -> Bands:
    """Return bands around the expected frequencies of each class and their harmonics.

    Args:
        frequencies: The fault frequencies of each class; empty for a class without any, such as a healthy machine.
        unit: "hz", or "orders" for multiples of the shaft's speed (a bearing's BPFO, BPFI, BSF and FTF).
        harmonics: The number of harmonics, ≥ 1: 1 for the frequencies themselves, 3 to add twice and three times each.
        tolerance: A band extends from (1 - tolerance) to (1 + tolerance) times its centre; above 0, below 1.
        fixed: Additional bands (low, high) in Hz for each class, such as a resonance.

    Raises:
        ValueError: A number is out of range, or a class has more than 64 bands, or all classes more than 1024.
    """
    if harmonics < 1:
        raise ValueError(f"harmonics must be at least 1, got {harmonics}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be above 0 and below 1, got {tolerance:g}")
    rows: list[tuple[float, ...]] = []
    ends = [0]
    for which in range(max(len(frequencies), len(fixed))):
        own = frequencies[which] if which < len(frequencies) else ()
        own_fixed = fixed[which] if which < len(fixed) else ()
        centres = [frequency * harmonic for frequency in own for harmonic in range(1, harmonics + 1)]
        if not all(0 < centre < math.inf for centre in centres):
            raise ValueError(f"class {which}: expected frequencies must be above 0, got {list(own)}")
        if not all(0 <= low < high < math.inf for low, high in own_fixed):
            raise ValueError(f"class {which}: a fixed band must be (low, high) with 0 <= low < high, got {own_fixed}")
        around = [(centre * (1 - tolerance), centre * (1 + tolerance)) for centre in centres]
        if unit == "hz":
            rows += [(*band, 0.0, 0.0) for band in around]
        else:
            rows += [(0.0, 0.0, low / _SECONDS, high / _SECONDS) for low, high in around]
        rows += [(*band, 0.0, 0.0) for band in own_fixed]
        ends.append(len(rows))
        if ends[-1] - ends[-2] > MAX_BANDS:
            raise ValueError(f"class {which} has {ends[-1] - ends[-2]} bands; at most {MAX_BANDS} are supported")
    if len(rows) > MAX_ALL_BANDS:
        raise ValueError(f"the classes have {len(rows)} bands; at most {MAX_ALL_BANDS} are supported")
    return Bands(torch.tensor(rows, dtype=torch.float64).reshape(-1, 4), torch.tensor(ends))


def frequency_penalties(
    signals: Tensor,
    bands: Bands,
    *,
    sample_rate: float,
    rpm: Tensor | None = None,
    healthy: Tensor | None = None,
) -> Tensor:
    """Return a penalty for each signal and class: near 0 if the class's bands stand out, 1 if they are empty.

    Let s be the fraction of the signal's energy (without its mean) in the bands of a class, counting overlaps once, and
    h the fraction of a healthy machine: by default that of a flat spectrum, the bands' fraction of the bandwidth. The
    penalty is `h / (s + h)`: 1 for empty bands, 1/2 at the level of a healthy machine, towards 0 if the bands stand
    out. The penalty of a class without bands is 1 minus the smallest penalty of the others. Penalties are 1/2 if
    undefined: for a silent signal, for bands above half the sample rate, and for bands in orders at speed 0.

    A bin covers half a bin width on either side of its frequency, and its energy is spread evenly over that range. So a
    band narrower than a bin contains a part of it, and penalties vary smoothly with the speed. For a constant signal,
    the result depends on rounding.
    Sums are float64. NaN or infinity in a signal or its speed makes all of its penalties NaN. Penalties do not depend
    on the model and can be computed once. Only the signals get a gradient, if they require one.

    Args:
        signals: [N, L], or [N, M, L] for M channels whose energies are summed; float16, bfloat16, float32 or float64,
            L ≥ 2. 16-bit signals are converted to float32, also under autocast.
        bands: The bands of each class.
        sample_rate: In Hz; above 0.
        rpm: [N] speeds of the shafts in revolutions per minute, whose sign is ignored; for bands in orders.
        healthy: [classes] fractions of energy, 0 to 1, of a healthy machine in each class's bands; NaN for that of a
            flat spectrum.

    Returns:
        [N, classes] from 0 to 1: float64 for float64 signals, else float32.

    Raises:
        TypeError: The dtype of the signals is not supported.
        ValueError: Shapes, devices or numbers are invalid.

    Source:
        Fault frequencies of rolling bearings: Randall and Antoni, Rolling element bearing diagnostics – a tutorial,
        Mechanical Systems and Signal Processing 25 (2011), equations 1 to 4. The penalty is Dovetail's own.
    """
    _check(signals, bands, sample_rate, rpm, healthy)
    length = signals.shape[-1]
    wide = signals if signals.dtype is torch.float64 else signals.float()
    channels = wide.unsqueeze(1) if wide.ndim == 2 else wide  # noqa: PLR2004  # [N, L]
    spectrum = _spectrum(channels)
    arguments = (
        spectrum,
        bands.edges,
        bands.ends,
        None if rpm is None else rpm.detach().double(),
        None if healthy is None else healthy.detach().double(),
        sample_rate / length,
        length,
    )
    if _loader.is_native(signals):
        penalties: Tensor = _loader.call("frequency_penalties", *arguments)
        return penalties
    return frequency_penalties_reference(*arguments)


def frequency_penalties_reference(  # noqa: PLR0917  # the op's own arguments
    spectrum: Tensor,
    bands: Tensor,
    ends: Tensor,
    rpm: Tensor | None,
    healthy: Tensor | None,
    bin_width: float,
    length: int,
) -> Tensor:
    """Compute the op in plain torch, with its arguments: the fallback, and the oracle for tests of the kernels."""
    energy = spectrum.double().square().sum((1, 3))
    energy = torch.cat([torch.zeros_like(energy[:, :1]), energy[:, 1:]], 1)
    below = torch.cat([torch.zeros_like(energy[:, :1]), energy.cumsum(1)], 1)
    energy = torch.cat([energy, torch.zeros_like(energy[:, :1])], 1)
    top = length / 2 + 0.5

    def energy_below(positions: Tensor) -> Tensor:
        """Return the energy below positions [N, …] in the spectrum, with bin k from k to k + 1."""
        bins = positions.nan_to_num().long()
        whole = below.gather(1, bins.flatten(1)).view(bins.shape)
        part = energy.gather(1, bins.flatten(1)).view(bins.shape)
        return whole + part * (positions - bins)

    speed = spectrum.new_zeros(len(spectrum), dtype=torch.float64) if rpm is None else rpm.abs()
    total = energy_below(torch.full_like(speed, top)[:, None])
    positions = ((bands[:, :2] + bands[:, 2:] * speed[:, None, None]) / bin_width + 0.5).clamp(1, top)
    limits = ends.tolist()
    columns: list[Tensor | None] = []
    for which, (begin, end) in enumerate(itertools.pairwise(limits)):
        if begin == end:
            columns.append(None)
            continue
        inside = positions[:, begin:end]
        inside = inside.gather(1, inside[:, :, :1].argsort(dim=1, stable=True).expand_as(inside))
        reached = inside[:, :, 1].cummax(1).values
        before = torch.cat([torch.ones_like(reached[:, :1]), reached[:, :-1]], 1)
        low, high = torch.maximum(inside[:, :, 0], before), torch.maximum(inside[:, :, 1], before)
        width = (high - low).sum(1)
        fraction = (energy_below(high) - energy_below(low)).sum(1) / total.where(total != 0, 1)[:, 0]
        normal = width / (top - 1)
        if healthy is not None:
            normal = normal.where(healthy[which].isnan(), healthy[which])
        both = fraction + normal
        known = (width > 0) & (total[:, 0] != 0) & (both != 0)
        columns.append((normal / both.where(known, 1)).where(known, _NEUTRAL))
    with_bands = [column for column in columns if column is not None]
    least = torch.stack(with_bands, 1).min(1).values if with_bands else torch.full_like(speed, _NEUTRAL)
    penalties = torch.stack([1 - least if column is None else column for column in columns], 1)
    defined = (total < math.inf) & (speed < math.inf)[:, None]
    return penalties.where(defined, math.nan).to(spectrum.dtype)


def _spectrum(channels: Tensor) -> Tensor:
    """Return the spectrum [N, M, L // 2 + 1, 2] of signals [N, M, L]."""
    if not channels.numel():  # torch.fft.rfft rejects empty tensors
        return channels.new_zeros(*channels.shape[:2], channels.shape[2] // 2 + 1, 2)
    return torch.view_as_real(torch.fft.rfft(channels))


def _check(signals: Tensor, bands: Bands, sample_rate: float, rpm: Tensor | None, healthy: Tensor | None) -> None:
    if signals.dtype not in _DTYPES:
        raise TypeError(f"frequency_penalties takes float16, bfloat16, float32 or float64, not {signals.dtype}")
    if signals.ndim not in {2, 3} or signals.shape[-1] < 2:  # noqa: PLR2004  # the shortest signal with a spectrum
        raise ValueError(f"signals must be [N, L] or [N, M, L] with L ≥ 2, got shape {tuple(signals.shape)}")
    if not 0 < sample_rate < math.inf:
        raise ValueError(f"sample_rate must be above 0, got {sample_rate:g}")
    if len(bands) < 1:
        raise ValueError("bands must have at least one class")
    wanted = {"rpm": (rpm, (len(signals),)), "healthy": (healthy, (len(bands),))}
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    for name, tensor in (("bands", bands.edges), ("rpm", rpm), ("healthy", healthy)):
        if tensor is not None and tensor.device != signals.device:
            raise ValueError(f"{name} must be on {signals.device}, the device of the signals, not on {tensor.device}")


@_loader.fake("frequency_penalties")
def _fake(spectrum: Tensor, bands: Tensor, ends: Tensor, *_: Any) -> Tensor:  # noqa: ARG001  # the schema's names
    """Return the shape and dtype for torch.compile and torch.export."""
    return spectrum.new_empty(len(spectrum), len(ends) - 1)


@_loader.fake("frequency_penalties_backward")
def _fake_backward(grad: Tensor, spectrum: Tensor, *_: Any) -> Tensor:  # noqa: ARG001  # the schema's names
    """Return the shape and dtype of the gradient."""
    return spectrum.new_empty(spectrum.shape)


def _setup_context(ctx: Any, inputs: _Arguments, output: Tensor) -> None:  # noqa: ARG001  # torch's signature
    *tensors, bin_width, length = inputs
    ctx.save_for_backward(*tensors)
    ctx.numbers = bin_width, length


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Compute the gradient with the kernel, or with the reference if the gradient must be differentiable."""
    spectrum, *rest = ctx.saved_tensors
    if torch.is_grad_enabled() and (spectrum.requires_grad or grad.requires_grad):
        penalties = frequency_penalties_reference(spectrum, *rest, *ctx.numbers)
        (gradient,) = torch.autograd.grad(penalties, spectrum, grad, create_graph=True)
    else:
        gradient = torch.ops.dovetail.frequency_penalties_backward(grad, spectrum, *rest, *ctx.numbers)
    return gradient, *[None] * 6


_loader.register_autograd("frequency_penalties", _backward, _setup_context)
