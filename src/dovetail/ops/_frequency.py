"""`frequency_penalties`: how little a signal carries of what each class would show in its spectrum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
from attrs import frozen
from torch import Tensor

from dovetail.ops import _loader

#: Of one class, and of all together; csrc/physics/bands.h has the same.
MAX_BANDS: Final = 64
MAX_ALL_BANDS: Final = 1024

_DTYPES: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_NEUTRAL: Final = 0.5
_SECONDS: Final = 60.0  # in a minute: orders of the shaft are times per turn, its speed is in turns per minute

# What the op takes: spectrum [N, M, K, 2], bands, ends, rpm, healthy, bin_width, length.
_Arguments = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, float, int]


@frozen(eq=False)
class Bands:
    """Where in a spectrum each class would show: make one with `bands_around`.

    Attributes:
        edges: [bands, 4] float64: low and high end in Hz, and low and high end in Hz per turn of the shaft per minute.
            Each pair is added up, so a band may stand still, move with the speed, or both.
        ends: [classes + 1] int64: where the bands of each class begin, and where the last one's end.
    """

    edges: Tensor
    ends: Tensor

    def to(self, device: torch.device | str) -> Bands:
        """Return the same on another device."""
        return Bands(self.edges.to(device), self.ends.to(device))

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.ends) - 1

    @property
    def need_speed(self) -> bool:
        """Whether a band moves with the speed of the shaft; reads the device."""
        return bool(self.edges[:, 2:].any())


def bands_around(
    frequencies: Sequence[Sequence[float]],
    *,
    unit: Literal["hz", "orders"] = "hz",
    harmonics: int = 1,
    tolerance: float = 0.1,
    fixed: Sequence[Sequence[tuple[float, float]]] = (),
) -> Bands:
    """Return the bands around the frequencies that are expected of each class, and of their harmonics.

    Args:
        frequencies: For each class those of its fault; none for a class that is recognised by what it does not show.
        unit: "hz", or "orders" for multiples of the shaft's speed (a bearing's BPFO, BPFI, BSF and FTF).
        harmonics: 1 for each frequency alone, 3 for twice and three times that as well; ≥ 1.
        tolerance: A band reaches from (1 - tolerance) to (1 + tolerance) times its centre; above 0, below 1.
        fixed: For each class further bands (low, high) in Hz, such as a resonance.

    Raises:
        ValueError: A number is out of its range, or there are more than 64 bands of a class or 1024 of all.
    """
    if harmonics < 1:
        raise ValueError(f"harmonics must be at least 1, got {harmonics}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be above 0 and below 1, got {tolerance:g}")
    rows: list[tuple[float, ...]] = []
    ends = [0]
    for which in range(max(len(frequencies), len(fixed))):
        of_class = frequencies[which] if which < len(frequencies) else ()
        fixed_of_class = fixed[which] if which < len(fixed) else ()
        centres = [frequency * harmonic for frequency in of_class for harmonic in range(1, harmonics + 1)]
        if not all(0 < centre < math.inf for centre in centres):
            raise ValueError(f"class {which}: expected frequencies must be above 0, got {list(of_class)}")
        if not all(0 <= low < high < math.inf for low, high in fixed_of_class):
            raise ValueError(f"class {which}: a band reaches from a lower frequency to a higher, got {fixed_of_class}")
        around = [(centre * (1 - tolerance), centre * (1 + tolerance)) for centre in centres]
        if unit == "hz":
            rows += [(*band, 0.0, 0.0) for band in around]
        else:
            rows += [(0.0, 0.0, low / _SECONDS, high / _SECONDS) for low, high in around]
        rows += [(*band, 0.0, 0.0) for band in fixed_of_class]
        ends.append(len(rows))
        if ends[-1] - ends[-2] > MAX_BANDS:
            raise ValueError(f"class {which} has {ends[-1] - ends[-2]} bands; at most {MAX_BANDS} are looked at")
    if len(rows) > MAX_ALL_BANDS:
        raise ValueError(f"the classes have {len(rows)} bands; at most {MAX_ALL_BANDS} are looked at")
    return Bands(torch.tensor(rows, dtype=torch.float64).reshape(-1, 4), torch.tensor(ends))


def frequency_penalties(
    signals: Tensor,
    bands: Bands,
    *,
    sample_rate: float,
    rpm: Tensor | None = None,
    healthy: Tensor | None = None,
) -> Tensor:
    """How little each signal carries of what each class would show: 0 where it stands out, 1 where there is nothing.

    Of the signal's energy without its mean, a share s lies in the bands of a class, those that overlap counted once.
    A healthy machine has a share h there: by default that of a flat spectrum, the bands' share of the width. The
    penalty is `h / (s + h)`: 1 for empty bands, 1/2 where they hold no more than a healthy machine's, towards 0 where
    they stand out. A class without bands is the one in which no other's stand out: 1 less the least of their penalties.
    It is 1/2 where nothing can be said: a silent signal, bands above half the sample rate, a shaft that stands still.

    A bin of the spectrum stands for the frequencies half a bin to either side of it, over which its energy is spread
    evenly: a band narrower than a bin holds its part of it, and penalties move smoothly with the speed. What a constant
    signal has besides its mean is rounding, and is taken as it is.
    Sums are float64. A NaN or an infinity in a signal or its speed makes all its penalties NaN. They depend on no
    model: they can be computed once. A gradient reaches the signals, if they require one, and nothing else.

    Args:
        signals: [N, L], or [N, M, L] for M channels, whose energies are added up; floats of 16, 32 or 64 bits, L ≥ 2.
            16 bits are read as float32, also under autocast.
        bands: Where each class would show.
        sample_rate: In Hz; above 0.
        rpm: [N], turns per minute of each signal's shaft, without regard to the sign; for bands in orders.
        healthy: [classes] shares of energy from 0 to 1 that a healthy machine has in each class's bands; NaN for a
            flat spectrum's.

    Returns:
        [N, classes] from 0 to 1: float64 for float64 signals, else float32.

    Raises:
        TypeError: Another dtype.
        ValueError: Shapes, devices or numbers that do not fit.

    Source:
        Fault frequencies of rolling bearings: Randall and Antoni, Rolling element bearing diagnostics – a tutorial,
        Mechanical Systems and Signal Processing 25 (2011), equations 1 to 4. The penalty is ours.
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
    if _loader.native(signals):
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
    """The op in plain torch, with the op's arguments: the fallback, and the oracle for the kernels' tests."""
    energy = spectrum.double().square().sum((1, 3))
    energy = torch.cat([torch.zeros_like(energy[:, :1]), energy[:, 1:]], 1)
    below = torch.cat([torch.zeros_like(energy[:, :1]), energy.cumsum(1)], 1)
    energy = torch.cat([energy, torch.zeros_like(energy[:, :1])], 1)
    top = length / 2 + 0.5

    def energy_below(places: Tensor) -> Tensor:
        """[N, …] at places in the spectrum: bin k is from k to k + 1."""
        bins = places.nan_to_num().long()
        whole = below.gather(1, bins.flatten(1)).view(bins.shape)
        part = energy.gather(1, bins.flatten(1)).view(bins.shape)
        return whole + part * (places - bins)

    speed = spectrum.new_zeros(len(spectrum), dtype=torch.float64) if rpm is None else rpm.abs()
    total = energy_below(torch.full_like(speed, top)[:, None])
    places = ((bands[:, :2] + bands[:, 2:] * speed[:, None, None]) / bin_width + 0.5).clamp(1, top)
    limits = ends.tolist()
    columns: list[Tensor | None] = []
    for which, (begin, end) in enumerate(itertools.pairwise(limits)):
        if begin == end:
            columns.append(None)
            continue
        inside = places[:, begin:end]
        inside = inside.gather(1, inside[:, :, :1].argsort(dim=1, stable=True).expand_as(inside))
        reached = inside[:, :, 1].cummax(1).values
        before = torch.cat([torch.ones_like(reached[:, :1]), reached[:, :-1]], 1)
        low, high = torch.maximum(inside[:, :, 0], before), torch.maximum(inside[:, :, 1], before)
        width = (high - low).sum(1)
        share = (energy_below(high) - energy_below(low)).sum(1) / total.where(total != 0, 1)[:, 0]
        normal = width / (top - 1)
        if healthy is not None:
            normal = normal.where(healthy[which].isnan(), healthy[which])
        both = share + normal
        known = (width > 0) & (total[:, 0] != 0) & (both != 0)
        columns.append((normal / both.where(known, 1)).where(known, _NEUTRAL))
    with_bands = [column for column in columns if column is not None]
    least = torch.stack(with_bands, 1).min(1).values if with_bands else torch.full_like(speed, _NEUTRAL)
    penalties = torch.stack([1 - least if column is None else column for column in columns], 1)
    defined = (total < math.inf) & (speed < math.inf)[:, None]
    return penalties.where(defined, math.nan).to(spectrum.dtype)


def _spectrum(channels: Tensor) -> Tensor:
    """[N, M, L] to [N, M, L // 2 + 1, 2]."""
    if not channels.numel():  # torch's own refuses it
        return channels.new_zeros(*channels.shape[:2], channels.shape[2] // 2 + 1, 2)
    return torch.view_as_real(torch.fft.rfft(channels))


def _check(signals: Tensor, bands: Bands, sample_rate: float, rpm: Tensor | None, healthy: Tensor | None) -> None:
    if signals.dtype not in _DTYPES:
        raise TypeError(f"frequency_penalties takes floats of 16, 32 or 64 bits, not {signals.dtype}")
    if signals.ndim not in {2, 3} or signals.shape[-1] < 2:  # noqa: PLR2004  # two samples make a spectrum
        raise ValueError(f"signals must be [N, L] or [N, M, L] with L ≥ 2, got shape {tuple(signals.shape)}")
    if not 0 < sample_rate < math.inf:
        raise ValueError(f"sample_rate must be above 0, got {sample_rate:g}")
    if len(bands) < 1:
        raise ValueError("bands must be of one class or more")
    wanted = {"rpm": (rpm, (len(signals),)), "healthy": (healthy, (len(bands),))}
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    for name, tensor in (("bands", bands.edges), ("rpm", rpm), ("healthy", healthy)):
        if tensor is not None and tensor.device != signals.device:
            raise ValueError(f"{name} must be on {signals.device}, where the signals are, not on {tensor.device}")


@_loader.fake("frequency_penalties")
def _fake(spectrum: Tensor, bands: Tensor, ends: Tensor, *_: Any) -> Tensor:  # noqa: ARG001  # the schema's names
    """Shape and dtype alone, for torch.compile and torch.export."""
    return spectrum.new_empty(len(spectrum), len(ends) - 1)


@_loader.fake("frequency_penalties_backward")
def _fake_backward(grad: Tensor, spectrum: Tensor, *_: Any) -> Tensor:  # noqa: ARG001  # the schema's names
    """Likewise."""
    return spectrum.new_empty(spectrum.shape)


def _keep(ctx: Any, inputs: _Arguments, output: Tensor) -> None:  # noqa: ARG001  # torch's signature
    *tensors, bin_width, length = inputs
    ctx.save_for_backward(*tensors)
    ctx.numbers = bin_width, length


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """By the kernel; by the reference where the gradient itself is to be differentiated."""
    spectrum, *rest = ctx.saved_tensors
    if torch.is_grad_enabled() and (spectrum.requires_grad or grad.requires_grad):
        penalties = frequency_penalties_reference(spectrum, *rest, *ctx.numbers)
        (found,) = torch.autograd.grad(penalties, spectrum, grad, create_graph=True)
    else:
        found = torch.ops.dovetail.frequency_penalties_backward(grad, spectrum, *rest, *ctx.numbers)
    return found, *[None] * 6


_loader.differentiable("frequency_penalties", _backward, _keep)
