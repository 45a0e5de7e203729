"""Solutions in closed form satisfy their problems."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail_signals.pinn import exact
from dovetail_signals.pinn.data import solution_grid
from dovetail_signals.pinn.field import Field
from dovetail_signals.pinn.problems import PROBLEMS, find_problem
from places import DATA


def points(seed: int = 0, count: int = 50, coordinates: str = "xt") -> torch.Tensor:
    """Return random points, with coordinates from -1 to 1 and time from 0 to 1."""
    drawn = torch.rand(count, len(coordinates), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([2 * drawn[:, :-1] - 1, drawn[:, -1:]], dim=1)


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.exact])
def test_exact_solutions_solve_their_problems(name):
    """A closed-form solution satisfies the problem's equation, initial and boundary values."""
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
