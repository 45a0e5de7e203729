"""What the operating conditions of a journal bearing let expect: the Sommerfeld number and the eccentricity."""

from __future__ import annotations

import functools
import math
from typing import Final

import torch
from torch import Tensor

# Eccentricity ratios of the table, as logits: from 3e-7 to 1 - 3e-7.
_REACH: Final = 15.0
_STEPS: Final = 1 << 13
_SECONDS: Final = 60.0  # in a minute


def sommerfeld_number(
    viscosity: Tensor,
    rpm: Tensor,
    load: Tensor,
    *,
    length: float = 0.05,
    diameter: float = 0.1,
    clearance: float = 1e-4,
) -> Tensor:
    """The Sommerfeld number of a journal bearing: `S = (μ n / p) (r / c)²`, with `p = load / (length · diameter)`.

    Args:
        viscosity: [N], μ: dynamic viscosity of the oil in Pa s; ≥ 0.
        rpm: [N], turns of the shaft per minute, n being those per second; its sign does not matter.
        load: [N], radial load in N; above 0.
        length: Of the bearing, in m.
        diameter: Of the shaft, in m; r is half of it.
        clearance: c: the radial clearance, in m.

    Returns:
        [N] float64; infinite where there is no load, NaN where there is neither load nor speed.

    Raises:
        ValueError: A size of the bearing is not above 0.

    Source:
        Hamrock, Schmid and Jacobson, Fundamentals of Fluid Film Lubrication (2nd edition, 2004), section 10.
    """
    for name, size in (("length", length), ("diameter", diameter), ("clearance", clearance)):
        if not 0 < size < math.inf:
            raise ValueError(f"{name} must be above 0, got {size:g}")
    pressure = load.double() / (length * diameter)
    return viscosity.double() * (rpm.double().abs() / _SECONDS) / pressure * (diameter / (2 * clearance)) ** 2


def sommerfeld_severity(number: Tensor, slenderness: float = 0.5) -> Tensor:
    """The eccentricity ratio ε of a short bearing: 0 for a shaft that floats in the middle, 1 for one that touches.

    It solves `S (L/D)² = (1 - ε²)² / (π ε √(π² (1 - ε²) + 16 ε²))`: the slower, the more loaded or the thinner the oil,
    the nearer the surfaces and the more severe the wear to be expected. Within 1e-6 of the exact ratio.

    Args:
        number: [N] Sommerfeld numbers S; no gradient reaches them.
        slenderness: L/D, length by diameter of the bearing; above 0. The equation holds for short ones, up to 1.

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
    place = ((duty - low) / (high - low)).clamp(0, 1)
    between = logits[right - 1] + place * (logits[right] - logits[right - 1])
    # Beyond the table the ratio is as good as 0 or 1.
    return between.sigmoid()


@functools.cache
def _table(device: torch.device) -> tuple[Tensor, Tensor]:
    """[8193] logarithms of S (L/D)², rising, and the logits of the eccentricity ratios that solve the equation."""
    logits = torch.linspace(_REACH, -_REACH, _STEPS + 1, dtype=torch.float64)
    ratio, rest = logits.sigmoid(), (-logits).sigmoid()  # ε and 1 - ε
    free = rest * (1 + ratio)  # 1 - ε²
    root = (math.pi**2 * free + 16 * ratio**2).sqrt()
    return (free**2 / (math.pi * ratio * root)).log().to(device), logits.to(device)
