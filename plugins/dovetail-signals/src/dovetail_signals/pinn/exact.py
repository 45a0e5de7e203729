"""Solutions in closed form, as references that need no file."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

_NODES: Final = 100  # of the quadrature; more have no effect in double precision


def _columns(points: Tensor) -> tuple[Tensor, Tensor]:
    return points[:, :1], points[:, 1:]


def burgers_sine(points: Tensor, viscosity: float) -> Tensor:
    """Return the solution of Burgers' equation with u = ``-sin πx`` at t = 0 and u = 0 at x = ±1.

    By the Cole–Hopf transform it is a ratio of two integrals over a Gaussian, computed by Gauss–Hermite quadrature.
    Source: Basdevant et al., «Spectral and finite difference solutions of the Burgers equation», Computers & Fluids 14,
    1986, equation 2.5.

    Args:
        points: ``[points, 2]``, x from -1 to 1 and t ≥ 0.
        viscosity: ν > 0; below about 0.002 the quadrature is not accurate.

    Returns:
        ``[points, 1]``, in the precision of ``points``.
    """
    nodes, weights = (
        torch.as_tensor(values, dtype=torch.float64, device=points.device)
        for values in np.polynomial.hermite.hermgauss(_NODES)
    )
    x, t = _columns(points.double())
    shifted = x - 2 * (viscosity * t).sqrt() * nodes
    # Subtract the largest exponent from both integrals, which can reach e^50.
    exponent = -torch.cos(math.pi * shifted) / (2 * math.pi * viscosity)
    kernel = weights * (exponent - exponent.amax(1, keepdim=True).detach()).exp()
    found = -(kernel * torch.sin(math.pi * shifted)).sum(1, keepdim=True) / kernel.sum(1, keepdim=True)
    return found.to(points.dtype)


def heat_sine(points: Tensor, diffusivity: float) -> Tensor:
    """Return ``e^(-απ²t) sin πx``: a rod that cools between two ends at zero.

    Args:
        points: ``[points, 2]``, x and t.
        diffusivity: α.
    """
    x, t = _columns(points)
    return torch.exp(-diffusivity * math.pi**2 * t) * torch.sin(math.pi * x)


def wave_sines(points: Tensor, speed: float) -> Tensor:
    """Return ``sin πx cos cπt + ½ sin 4πx cos 4cπt``: a string fixed at x = 0 and x = 1.

    Source: Wang, Yu and Perdikaris, «When and why PINNs fail to train», J. Comput. Phys. 449, 2022, section 7.

    Args:
        points: ``[points, 2]``, x and t.
        speed: c.
    """
    x, t = _columns(points)
    return torch.stack(
        [
            amplitude * torch.sin(k * math.pi * x) * torch.cos(speed * k * math.pi * t)
            for k, amplitude in ((1, 1.0), (4, 0.5))
        ]
    ).sum(0)
