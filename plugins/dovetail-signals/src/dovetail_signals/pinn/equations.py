"""Differential equations as residuals, which are zero for a solution.

An equation is a function of a :class:`~dovetail_signals.pinn.field.Field` and its coefficients that returns
``[points, equations]``. Write your own in the same way.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from dovetail_signals.pinn.field import Field

_BURGERS_VISCOSITY: Final = 0.01 / math.pi


def burgers(u: Field, viscosity: float = _BURGERS_VISCOSITY) -> Tensor:
    """Return ``u_t + u u_x - ν u_xx``: viscous flow in one dimension.

    Source: Burgers, «A mathematical model illustrating the theory of turbulence», 1948; with ν = 0.01/π the example of
    Raissi, Perdikaris and Karniadakis, «Physics-informed neural networks», J. Comput. Phys. 378, 2019, appendix A.
    """
    return u("t") + u.value * u("x") - viscosity * u("xx")


def schrodinger(u: Field, dispersion: float = 0.5, nonlinearity: float = 1.0) -> Tensor:
    """Return ``i h_t + d h_xx + g |h|² h``, real and imaginary part, for ``h = u₀ + i u₁``: waves in a focusing medium.

    Source: the nonlinear Schrödinger equation as in Raissi et al., 2019, section 3.1.1.
    """
    intensity = u.value.square().sum(1, keepdim=True)
    return _times_i(u("t")) + dispersion * u("xx") + nonlinearity * intensity * u.value


def _times_i(h: Tensor) -> Tensor:
    return torch.stack([-h[:, 1], h[:, 0]], dim=1)


def kdv(u: Field, dispersion: float = 0.0025) -> Tensor:
    """Return ``u_t + u u_x + δ² u_xxx``: waves on shallow water; ``dispersion`` is δ².

    Source: Korteweg and de Vries, 1895; with δ = 0.05 (0.022 in theirs) after Zabusky and Kruskal, «Interaction of
    solitons in a collisionless plasma», Phys. Rev. Lett. 15, 1965.
    """
    return u("t") + u.value * u("x") + dispersion * u("xxx")


def allen_cahn(u: Field, diffusion: float = 1e-4, reaction: float = 5.0) -> Tensor:
    """Return ``u_t - d u_xx - r (u - u³)``: phase separation.

    Source: Allen and Cahn, Acta Metallurgica 27, 1979; with these coefficients Raissi et al., 2019, section 4.1.
    """
    return u("t") - diffusion * u("xx") - reaction * (u.value - u.value**3)


def heat(u: Field, diffusivity: float = 0.1) -> Tensor:
    """Return ``u_t - α ∇²u``: heat conduction in one or more dimensions.

    Source: Fourier, «Théorie analytique de la chaleur», 1822.
    """
    return u("t") - diffusivity * _laplacian(u)


def wave(u: Field, speed: float = 1.0) -> Tensor:
    """Return ``u_tt - c² ∇²u``: a string, a membrane, or sound.

    Source: d'Alembert, 1747.
    """
    return u("tt") - speed**2 * _laplacian(u)


def _laplacian(u: Field) -> Tensor:
    second = [u(2 * letter) for letter in u.coordinates if letter != "t"]
    return torch.stack(second).sum(0)
