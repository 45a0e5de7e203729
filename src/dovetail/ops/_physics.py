"""The terms of `physical_terms` one at a time, consecutive windows, and the state of a journal bearing."""

from __future__ import annotations

import functools
import math
from typing import Final

import torch
from torch import Tensor

from dovetail.ops._physical_terms import Windows, check_dtype, compute_dtype, physical_terms

# The table of eccentricity ratios covers their logits from -15 to 15, ratios from 3e-7 to 1 - 3e-7.
_MAX_LOGIT: Final = 15.0
_STEPS: Final = 1 << 13
_SECONDS: Final = 60.0  # per minute


def frequency_consistency(logits: Tensor, penalties: Tensor) -> Tensor:
    """Return the expected penalty, `mean over n of Σ_c softmax(logits)_nc · penalties_nc`.

    All class probabilities contribute: the penalty of the argmax would have no gradient with respect to the logits.
    With `frequency_penalties`, a class has a cost if its fault frequencies are weak in the signal.

    Args:
        logits: [N, classes] float16, bfloat16, float32 or float64, any strides. 16-bit logits are computed in float32.
        penalties: [N, classes]; a gradient reaches them if they require one, and through them the signals.

    Returns:
        [], float64 for float64 logits, else float32, also under autocast; 0 for no samples.

    Raises:
        TypeError: The dtype of the logits is not supported.
        ValueError: Shapes, dtypes or devices do not match.
    """
    return physical_terms(logits, penalties=penalties).total


def sommerfeld_consistency(outputs: Tensor, severity: Tensor, levels: Tensor | None = None) -> Tensor:
    """Return the mean squared difference between predicted and expected severity.

    The predicted severity is the expectation `Σ_c softmax(outputs)_c · levels_c`, or the model's output itself without
    `levels`. `sommerfeld_severity` computes the expected severity from the operating conditions.

    Args:
        outputs: [N, classes] class logits with `levels`; [N] or [N, 1] predicted severities without.
        severity: [N] expected severities, in the unit of the levels; they get no gradient.
        levels: [classes] severities of the classes; they get no gradient.

    Returns:
        [], float64 for float64 outputs, else float32; 0 for no samples.

    Raises:
        TypeError: The dtype of the outputs is not supported.
        ValueError: Shapes, dtypes or devices do not match.
    """
    if levels is not None:
        return physical_terms(outputs, severity=severity, levels=levels).total
    check_dtype(outputs)
    if outputs.shape not in {severity.shape, (*severity.shape, 1)} or severity.ndim != 1:
        shapes = f"{tuple(outputs.shape)} and {tuple(severity.shape)}"
        raise ValueError(f"predicted severities must be [N] or [N, 1] and expected ones [N], got {shapes}")
    wide = compute_dtype(outputs.dtype)
    difference = outputs.reshape(-1).to(wide) - severity.detach().to(wide)
    return difference.square().sum() / max(len(difference), 1)


def temporal_smoothness(
    logits: Tensor,
    recordings: Tensor | None = None,
    times: Tensor | None = None,
    *,
    time_step: float = 1.0,
) -> Tensor:
    """Return the mean squared change of class probabilities between consecutive windows of a recording.

    It is `1/M Σ (time_step / Δt)² Σ_c (q_c(t) - q_c(t - Δt))²` over the M windows whose previous window is in the
    batch: a change over a longer time has a smaller weight.

    Args:
        logits: [N, classes], as for `frequency_consistency`.
        recordings: As for `consecutive`.
        times: As for `consecutive`.
        time_step: As for `consecutive`.

    Returns:
        [], float64 for float64 logits, else float32; 0 without consecutive windows.

    Raises:
        TypeError: The dtype of the logits is not supported.
        ValueError: Shapes, dtypes or devices do not match.
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
    """Return the previous and the next window of each window of a batch within its recording.

    Args:
        count: N, the number of windows.
        recordings: [N] integers that identify the recording of each window; by default all windows are of one.
        times: [N] start times of the windows, in any unit; by default they are in order, one `time_step` apart.
            Windows with the same time or NaN are not consecutive.
        time_step: The time between windows for which a change has weight 1; above 0.
        device: The device of the result if neither recordings nor times are given.

    Raises:
        ValueError: Shapes, devices or numbers are invalid.
    """
    if not time_step > 0:
        raise ValueError(f"time_step must be above 0, got {time_step:g}")
    for name, tensor in (("recordings", recordings), ("times", times)):
        if tensor is not None and tuple(tensor.shape) != (count,):
            raise ValueError(f"{name} must have shape ({count},), got {tuple(tensor.shape)}")
    device = next((tensor.device for tensor in (recordings, times) if tensor is not None), torch.device(device))
    order = torch.arange(count, device=device)
    if times is not None:
        order = times.argsort(stable=True)
    if recordings is not None:
        order = order[recordings[order].argsort(stable=True)]
    before = torch.cat([order[:1], order[:-1]])
    follows = torch.arange(count, device=device) > 0
    rates = torch.ones(count, dtype=torch.float64, device=device)
    if recordings is not None:
        follows &= recordings[order] == recordings[before]
    if times is not None:
        passed = times[order].double() - times[before].double()
        follows &= passed > 0
        rates = (time_step / passed.where(follows, 1)) ** 2
    previous = torch.empty_like(order).scatter_(0, order, before.where(follows, -1))
    rates = torch.empty_like(rates).scatter_(0, order, rates.where(follows, 0))
    # The extra entry at the end collects the windows without a next one.
    following = order.new_full((count + 1,), -1).scatter_(0, before.where(follows, count), order.where(follows, -1))
    return Windows(torch.stack([previous, following[:count]], 1), rates)


def sommerfeld_number(
    viscosity: Tensor,
    rpm: Tensor,
    load: Tensor,
    *,
    length: float = 0.05,
    diameter: float = 0.1,
    clearance: float = 1e-4,
) -> Tensor:
    """Return the Sommerfeld number of a journal bearing.

    It is `S = (μ n / p) (r / c)²` with the pressure `p = load / (length · diameter)`.

    Args:
        viscosity: [N] dynamic viscosities μ of the oil in Pa s; ≥ 0.
        rpm: [N] speeds of the shaft in revolutions per minute, whose sign is ignored; n is per second.
        load: [N] radial loads in N; above 0.
        length: Length of the bearing in m.
        diameter: Diameter of the shaft in m; r is half of it.
        clearance: Radial clearance c in m.

    Returns:
        [N] float64; infinite without load, NaN without load and speed.

    Raises:
        ValueError: A dimension of the bearing is not above 0.

    Source:
        Hamrock, Schmid and Jacobson, Fundamentals of Fluid Film Lubrication (2nd edition, 2004), section 10.
    """
    for name, size in (("length", length), ("diameter", diameter), ("clearance", clearance)):
        if not 0 < size < math.inf:
            raise ValueError(f"{name} must be above 0, got {size:g}")
    pressure = load.double() / (length * diameter)
    return viscosity.double() * (rpm.double().abs() / _SECONDS) / pressure * (diameter / (2 * clearance)) ** 2


def sommerfeld_severity(number: Tensor, slenderness: float = 0.5) -> Tensor:
    """Return the eccentricity ratio ε of a short bearing: 0 for a centred shaft, 1 for one that touches the bearing.

    It solves `S (L/D)² = (1 - ε²)² / (π ε √(π² (1 - ε²) + 16 ε²))`: lower speed, higher load or thinner oil bring the
    surfaces closer together and increase the expected wear. The absolute error is at most 1e-6.

    Args:
        number: [N] Sommerfeld numbers S; they get no gradient.
        slenderness: L/D, length by diameter of the bearing; above 0. The equation is valid for short bearings, up to 1.

    Returns:
        [N] float64 from 0 to 1; NaN for NaN or a number below 0.

    Raises:
        ValueError: `slenderness` is not above 0.

    Source:
        Ocvirk, Short-bearing approximation for full journal bearings, NACA TN 2808 (1952).
    """
    if not 0 < slenderness < math.inf:
        raise ValueError(f"slenderness must be above 0, got {slenderness:g}")
    duties, logits = _table(number.device)
    duty = (number.detach().double() * slenderness**2).log()
    right = torch.searchsorted(duties, duty.nan_to_num().contiguous()).clamp(1, _STEPS)
    low, high = duties[right - 1], duties[right]
    position = ((duty - low) / (high - low)).clamp(0, 1)
    # Beyond the table the ratio is 0 or 1 within the error.
    return (logits[right - 1] + position * (logits[right] - logits[right - 1])).sigmoid()


@functools.cache
def _table(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return [8193] increasing logarithms of S (L/D)², and the logits of the corresponding eccentricity ratios."""
    logits = torch.linspace(_MAX_LOGIT, -_MAX_LOGIT, _STEPS + 1, dtype=torch.float64)
    ratio, rest = logits.sigmoid(), (-logits).sigmoid()  # ε and 1 - ε
    free = rest * (1 + ratio)  # 1 - ε²
    root = (math.pi**2 * free + 16 * ratio**2).sqrt()
    return (free**2 / (math.pi * ratio * root)).log().to(device), logits.to(device)
