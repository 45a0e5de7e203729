"""Reference solutions of periodic problems, by a spectral method.

Source: Trefethen, «Spectral methods in MATLAB», 2000, chapter 10: derivatives by the Fourier transform, the linear part
by an integrating factor, time by the classical fourth-order Runge–Kutta method. For each equation below, halving the
step does not change the first six digits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complexfloating[Any, Any]]
Real = npt.NDArray[np.floating[Any]]


def integrate(
    symbol: Callable[[Real], Complex],
    reaction: Callable[[Complex, Real], Complex],
    *,
    start: Complex,
    period: float,
    times: Real,
    step: float,
) -> Complex:
    """Solve ``u_t = L u + N(u)`` over one period of space.

    Args:
        symbol: the Fourier symbol of L, a function of the wave numbers.
        reaction: the Fourier transform of N, a function of the values and the wave numbers.
        start: the values at ``times[0]``, on an even grid over the period without its end.
        period: length of the period.
        times: increasing times at which to return the solution.
        step: largest time step.

    Returns:
        ``[places, times]``.
    """
    waves = 2 * math.pi / period * np.fft.fftfreq(len(start), 1 / len(start))
    linear = symbol(waves)
    # The 2/3 rule: products of higher modes would alias to lower ones.
    kept = np.abs(waves) < 2 / 3 * np.abs(waves).max()
    mode, found = np.fft.fft(start), [np.asarray(start, complex)]

    def change(now: Complex) -> Complex:
        return np.where(kept, reaction(np.fft.ifft(now), waves), 0.0)

    for before, after in itertools.pairwise(times):
        count = max(1, math.ceil((after - before) / step - 1e-9))
        length = (after - before) / count
        half = np.exp(linear * length / 2)
        whole = half**2
        for _ in range(count):
            first = length * change(mode)
            second = length * change(half * (mode + first / 2))
            third = length * change(half * mode + second / 2)
            fourth = length * change(whole * mode + half * third)
            mode = whole * mode + (whole * first + 2 * half * (second + third) + fourth) / 6
        found.append(np.fft.ifft(mode))
    return np.stack(found, axis=1)


def schrodinger(start: Complex, period: float, times: Real, dispersion: float, nonlinearity: float) -> Complex:
    """Solve ``i h_t + d h_xx + g |h|² h = 0``; the arguments are those of :func:`integrate`."""
    return integrate(
        lambda k: -1j * dispersion * k**2,
        lambda h, _: np.fft.fft(1j * nonlinearity * np.abs(h) ** 2 * h),
        start=start,
        period=period,
        times=times,
        step=2e-3,
    )


def kdv(start: Complex, period: float, times: Real, dispersion: float) -> Complex:
    """Solve ``u_t + u u_x + δ² u_xxx = 0``."""
    return integrate(
        lambda k: 1j * dispersion * k**3,
        lambda u, k: -0.5j * k * np.fft.fft(u.real**2),
        start=start,
        period=period,
        times=times,
        step=8e-4,
    )


def allen_cahn(start: Complex, period: float, times: Real, diffusion: float, reaction: float) -> Complex:
    """Solve ``u_t = d u_xx + r (u - u³)``."""
    return integrate(
        lambda k: (reaction - diffusion * k**2).astype(complex),
        lambda u, _: -reaction * np.fft.fft(u.real**3),
        start=start,
        period=period,
        times=times,
        step=5e-3,
    )
