"""The dataset of a problem: reference solutions from files and solvers."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from dovetail_signals.pinn.data import pde_points, solution_grid
from dovetail_signals.pinn.problems import PROBLEMS, Problem, find_problem


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.solver])
def test_periodic_problems_have_a_reference_solution(name):
    """Without a file, the solver gives a solution on a grid that starts with the initial values."""
    problem = find_problem(name)
    grid = solution_grid(problem, None, torch.float64)
    begins = grid.inputs[:, 1] == problem.lower[1]

    assert torch.allclose(grid.values[begins], problem.initial(grid.inputs[begins]))
    assert grid.values.isfinite().all()
    assert (grid.inputs[:, 0] < problem.upper[0]).all()


def test_a_reference_file_becomes_the_test_split(tmp_path):
    """Axes by letter and values on their grid become the test split, in the order of the grid."""
    x, t = np.linspace(-5, 5, 7), np.linspace(0, 1.5, 4)
    h = x[:, None] + 1j * t
    np.savez(tmp_path / "nls.npz", x=x[None], t=t[None], h=h)
    made = pde_points(problem="schrodinger", reference=tmp_path / "nls.npz", dtype="float64", validation=9)

    assert torch.equal(made.test.inputs, made.test.values)
    assert list(made.test.axes) == ["x", "t"]
    assert len(made.validation) == 9
    assert torch.equal(made.validation.inputs, made.validation.values)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": [0.0, 1.0], "u": [[1.0], [2.0]]}, "no array 't'"),
        ({"x": [0.0, 1.0], "t": [0.0], "u": [[1.0, 2.0]]}, "on a grid of 2 × 1"),
        ({"x": [0.0, 2.0], "t": [0.0], "u": [[1.0], [2.0]]}, "leaves the domain"),
        ({"x": [0.0, 1.0], "t": [0.0], "h": [[1j], [2j]]}, "2 unknown"),
    ],
    ids=["missing", "shape", "domain", "unknowns"],
)
def test_a_reference_that_does_not_fit_raises(tmp_path, arrays, message):
    """The error says what is wrong with the file, before training."""
    np.savez(tmp_path / "bad.npz", **arrays)

    with pytest.raises(ValueError, match=message):
        pde_points(problem="burgers", reference=tmp_path / "bad.npz")


def test_an_unreadable_reference_raises(tmp_path):
    """A missing file, and one that is not an archive."""
    (tmp_path / "text.npz").write_text("hello")

    with pytest.raises(FileNotFoundError, match="no such file"):
        pde_points(problem="burgers", reference=tmp_path / "none.npz")
    with pytest.raises(ValueError, match="cannot be read"):
        pde_points(problem="burgers", reference=tmp_path / "text.npz")


def test_validation_needs_a_solution(monkeypatch):
    """A problem without a known solution has no test split, and cannot have a validation split."""
    module = types.ModuleType("unsolved")
    module.unsolved = Problem(equation=PROBLEMS["heat"].equation, domain={"x": (0, 1), "t": (0, 1)})
    monkeypatch.setitem(sys.modules, "unsolved", module)
    options = {"problem": "unsolved:unsolved", "initial": 0, "boundary": 0}

    assert pde_points(**options).test is None
    with pytest.raises(ValueError, match="set reference"):
        pde_points(**options, validation=5)
