"""Equations of PINNs: what each leaves of a known solution is zero."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pinn import equations, exact, spectral
from dovetail_signals.pinn.data import solution_grid
from dovetail_signals.pinn.field import Field
from dovetail_signals.pinn.problems import PROBLEMS, find_problem

DATA = Path(os.environ.get("DOVETAIL_DATA", Path(__file__).parents[4] / "shared" / "data"))


def points(seed: int = 0, count: int = 50, coordinates: str = "xt") -> torch.Tensor:
    """Points with each coordinate from -1 to 1, and time from 0 to 1."""
    drawn = torch.rand(count, len(coordinates), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([2 * drawn[:, :-1] - 1, drawn[:, -1:]], dim=1)


def residual(equation, solution, at, **coefficients) -> float:
    """The largest residual of a solution."""
    at = at.clone().requires_grad_()
    columns = [at[:, place : place + 1] for place in range(at.shape[1])]
    names = "xyt" if at.shape[1] == 3 else "xt"
    return equation(Field(solution(*columns), at, names), **coefficients).abs().max().item()


def shock(c, a, nu):
    """A front of Burgers' equation that moves with speed c (Whitham, «Linear and nonlinear waves», 4.22)."""
    return lambda x, t: c - a * torch.tanh(a * (x - c * t) / (2 * nu))


def soliton(a, v):
    """A bright soliton of i h_t + h_xx/2 + |h|²h = 0 (Zakharov and Shabat, 1972)."""

    def solution(x, t):
        envelope, phase = a / torch.cosh(a * (x - v * t)), v * x + (a**2 - v**2) * t / 2
        return torch.cat([envelope * torch.cos(phase), envelope * torch.sin(phase)], dim=1)

    return solution


def kdv_soliton(c, d):
    """The soliton of u_t + u u_x + d u_xxx = 0 with speed c (Korteweg and de Vries, 1895)."""
    return lambda x, t: 3 * c / torch.cosh(0.5 * math.sqrt(c / d) * (x - c * t)) ** 2


def front(d, r):
    """A travelling front of u_t = d u_xx + r (u - u³) (Newell and Whitehead, 1969, on scaled axes)."""
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
def test_a_known_solution_leaves_nothing(name, seed):
    """At any points the residual of a solution in closed form is zero to 1e-10 in double precision."""
    equation, solution, coefficients = SOLUTIONS[name]

    assert residual(equation, solution, points(seed), **coefficients) < 1e-10


@pytest.mark.parametrize("name", SOLUTIONS)
def test_what_is_no_solution_leaves_something(name):
    """A larger function is no solution of a nonlinear equation, nor of a linear one with another coefficient."""
    equation, solution, coefficients = SOLUTIONS[name]
    changed = {key: 1.1 * value for key, value in coefficients.items()}
    linear = name in {"heat", "wave"}
    larger = solution if linear else lambda x, t: 1.1 * solution(x, t)

    assert residual(equation, larger, points(), **(changed if linear else coefficients)) > 1e-3


def test_two_dimensions_of_space():
    """Heat and waves take as many coordinates of space as there are."""
    at = points(coordinates="xyt")

    def cooling(x, y, t):
        return torch.exp(-0.3 * 5 * t) * torch.cos(2 * x) * torch.sin(y)

    def standing(x, y, t):
        return torch.cos(math.sqrt(5) * 1.7 * t) * torch.cos(2 * x) * torch.sin(y)

    assert residual(equations.heat, cooling, at, diffusivity=0.3) < 1e-10
    assert residual(equations.wave, standing, at, speed=1.7) < 1e-10


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.exact])
def test_exact_solutions_solve_their_problems(name):
    """A problem's solution in closed form satisfies its equation, its initial and its boundary values."""
    problem = find_problem(name)
    solution = problem.solution()
    inside = (problem.lower + (problem.upper - problem.lower) * points().abs()).requires_grad_()
    start, ends = inside.detach().clone(), inside.detach().clone()
    start[:, 1] = 0
    ends[:, 0] = torch.where(torch.arange(len(ends)) % 2 == 0, problem.lower[0], problem.upper[0])
    left = problem.residual(Field(solution(inside), inside, "xt")).abs().max()
    scale = Field(solution(inside), inside, "xt")("xx").abs().max()

    assert left < 1e-10 * max(1, scale)
    assert (solution(start) - problem.initial(start)).abs().max() < 1e-10
    assert (solution(ends) - problem.boundary(ends)).abs().max() < 1e-10


@pytest.mark.skipif(not (DATA / "pde").is_dir(), reason="needs the reference solutions under DOVETAIL_DATA")
def test_burgers_in_closed_form_is_the_published_reference():
    """The quadrature agrees with the reference solution of the PINN paper on the whole grid."""
    grid = solution_grid(find_problem("burgers"), DATA / "pde" / "burgers_shock.npz", torch.float64)
    found = exact.burgers_sine(grid.inputs, 0.01 / math.pi)

    assert (found - grid.values).norm() / grid.values.norm() < 1e-5


def test_derivatives_are_those_of_a_polynomial():
    """Mixed and repeated derivatives, of several unknowns, in any order of letters."""
    at = points().requires_grad_()
    x, t = at[:, :1], at[:, 1:]
    u = Field(torch.cat([x**3 * t**2, x * t], dim=1), at, "xt")

    assert torch.allclose(u("xxt"), torch.cat([12 * x * t, 0 * x], dim=1))
    assert torch.equal(u("txx"), u("xxt"))
    assert torch.allclose(u("t"), torch.cat([2 * x**3 * t, x], dim=1))
    assert torch.equal(u.at("t"), t)


@pytest.mark.parametrize("by", ["y", "xy", "xt t"])
def test_an_unknown_coordinate_is_named(by):
    """A letter that is no coordinate is refused, with those that there are."""
    at = points().requires_grad_()

    with pytest.raises(ValueError, match="there are x, t"):
        Field(at[:, :1], at, "xt")(by)


@pytest.mark.skipif(not (DATA / "pde").is_dir(), reason="needs the reference solutions under DOVETAIL_DATA")
@pytest.mark.parametrize("name, file", [("schrodinger", "nls"), ("kdv", "kdv")])
def test_computed_solutions_are_the_published_references(name, file):
    """The spectral method, on the grid of the reference solution of the PINN paper, agrees with it."""
    problem = find_problem(name)
    grid = solution_grid(problem, DATA / "pde" / f"{file}.npz", torch.float64)
    x, t = (axis.numpy() for axis in grid.axes.values())
    wanted = grid.values.numpy().reshape(len(x), len(t), problem.unknowns)
    wanted = wanted[..., 0] + 1j * wanted[..., 1] if problem.unknowns > 1 else wanted[..., 0]
    low, high = problem.domain["x"]
    inside = x < high - 1e-9
    found = problem.solver(wanted[inside, 0].astype(complex), high - low, t, **problem.options())

    assert np.linalg.norm(found - wanted[inside]) < 1e-4 * np.linalg.norm(wanted)


def test_a_computed_soliton_moves_as_it_should():
    """The spectral solution of a periodic soliton of KdV is the one in closed form, to six digits."""
    x, t = np.linspace(-4, 4, 257)[:-1], np.linspace(0, 1, 5)
    wave = np.stack(
        [kdv_soliton(0.5, 0.01)(torch.from_numpy(x), torch.tensor(float(time))).numpy() for time in t], axis=1
    )
    found = spectral.kdv(wave[:, 0].astype(complex), 8.0, t, dispersion=0.01)

    assert np.linalg.norm(found - wave) < 1e-6 * np.linalg.norm(wave)


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.solver])
def test_periodic_problems_have_a_grid_to_compare_with(name):
    """Without a file there is a solution on a grid, which begins as the problem does."""
    problem = find_problem(name)
    grid = solution_grid(problem, None, torch.float64)
    begins = grid.inputs[:, 1] == problem.lower[1]

    assert torch.allclose(grid.values[begins], problem.initial(grid.inputs[begins]))
    assert grid.values.isfinite().all()
    assert (grid.inputs[:, 0] < problem.upper[0]).all()
