"""The equations: the residual of a known solution is zero."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pinn import equations
from dovetail_signals.pinn.field import Field


def points(seed: int = 0, count: int = 50, coordinates: str = "xt") -> torch.Tensor:
    """Return random points, with coordinates from -1 to 1 and time from 0 to 1."""
    drawn = torch.rand(count, len(coordinates), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([2 * drawn[:, :-1] - 1, drawn[:, -1:]], dim=1)


def residual(equation, solution, at, **coefficients) -> float:
    """Return the largest absolute residual of a solution."""
    at = at.clone().requires_grad_()
    columns = [at[:, place : place + 1] for place in range(at.shape[1])]
    names = "xyt" if at.shape[1] == 3 else "xt"
    return equation(Field(solution(*columns), at, names), **coefficients).abs().max().item()


def shock(c, a, nu):
    """Return a front of Burgers' equation that moves with speed c (Whitham, «Linear and nonlinear waves», 4.22)."""
    return lambda x, t: c - a * torch.tanh(a * (x - c * t) / (2 * nu))


def soliton(a, v):
    """Return a bright soliton of i h_t + h_xx/2 + |h|²h = 0 (Zakharov and Shabat, 1972)."""

    def solution(x, t):
        envelope, phase = a / torch.cosh(a * (x - v * t)), v * x + (a**2 - v**2) * t / 2
        return torch.cat([envelope * torch.cos(phase), envelope * torch.sin(phase)], dim=1)

    return solution


def kdv_soliton(c, d):
    """Return the soliton of u_t + u u_x + d u_xxx = 0 with speed c (Korteweg and de Vries, 1895)."""
    return lambda x, t: 3 * c / torch.cosh(0.5 * math.sqrt(c / d) * (x - c * t)) ** 2


def front(d, r):
    """Return a travelling front of u_t = d u_xx + r (u - u³) (Newell and Whitehead, 1969, on scaled axes)."""
    return lambda x, t: 0.5 * (1 + torch.tanh(math.sqrt(r / (8 * d)) * x + 0.75 * r * t))


SOLUTIONS = {
    "burgers": (equations.burgers, shock(0.4, 0.7, 0.1), {"viscosity": 0.1}),
    "schrodinger": (equations.schrodinger, soliton(1.3, 0.6), {}),
    "kdv": (equations.kdv, kdv_soliton(0.5, 0.1), {"dispersion": 0.1}),
    "allen_cahn": (equations.allen_cahn, front(0.1, 2.0), {"diffusion": 0.1, "reaction": 2.0}),
    "heat": (equations.heat, lambda x, t: torch.exp(-0.3 * 4 * t) * torch.cos(2 * x), {"diffusivity": 0.3}),
    "wave": (equations.wave, lambda x, t: torch.sin(x - 1.7 * t) + torch.exp(-((x + 1.7 * t) ** 2)), {"speed": 1.7}),
}


@pytest.mark.parametrize("name", SOLUTIONS)
@given(seed=st.integers(0, 1000))
def test_a_known_solution_has_no_residual(name, seed):
    """At any points, the residual of a closed-form solution is zero to 1e-10 in double precision."""
    equation, solution, coefficients = SOLUTIONS[name]

    assert residual(equation, solution, points(seed), **coefficients) < 1e-10


@pytest.mark.parametrize("name", SOLUTIONS)
def test_another_function_has_a_residual(name):
    """A scaled solution does not solve a nonlinear equation, nor a solution a linear one with another coefficient."""
    equation, solution, coefficients = SOLUTIONS[name]
    changed = {key: 1.1 * value for key, value in coefficients.items()}
    linear = name in {"heat", "wave"}
    larger = solution if linear else lambda x, t: 1.1 * solution(x, t)

    assert residual(equation, larger, points(), **(changed if linear else coefficients)) > 1e-3


def test_two_dimensions_of_space():
    """Heat and wave equations take any number of coordinates of space."""
    at = points(coordinates="xyt")

    def cooling(x, y, t):
        return torch.exp(-0.3 * 5 * t) * torch.cos(2 * x) * torch.sin(y)

    def standing(x, y, t):
        return torch.cos(math.sqrt(5) * 1.7 * t) * torch.cos(2 * x) * torch.sin(y)

    assert residual(equations.heat, cooling, at, diffusivity=0.3) < 1e-10
    assert residual(equations.wave, standing, at, speed=1.7) < 1e-10


def test_equations_have_sources():
    """Every built-in equation names its source."""
    named = [getattr(equations, name) for name in ("burgers", "schrodinger", "kdv", "allen_cahn", "heat", "wave")]

    assert all("Source:" in equation.__doc__ for equation in named)
