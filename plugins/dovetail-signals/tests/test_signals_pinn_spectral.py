"""Reference solutions by the spectral method."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dovetail_signals.pinn import spectral
from dovetail_signals.pinn.data import solution_grid
from dovetail_signals.pinn.problems import find_problem
from places import DATA


def kdv_soliton(c, d):
    """Return the soliton of u_t + u u_x + d u_xxx = 0 with speed c (Korteweg and de Vries, 1895)."""
    return lambda x, t: 3 * c / torch.cosh(0.5 * math.sqrt(c / d) * (x - c * t)) ** 2


@pytest.mark.skipif(not (DATA / "pde").is_dir(), reason="needs the reference solutions under DOVETAIL_DATA")
@pytest.mark.parametrize("name, file", [("schrodinger", "nls"), ("kdv", "kdv")])
def test_computed_solutions_are_the_published_references(name, file):
    """The spectral method agrees with the reference solution of the PINN paper on its grid."""
    problem = find_problem(name)
    grid = solution_grid(problem, DATA / "pde" / f"{file}.npz", torch.float64)
    x, t = (axis.numpy() for axis in grid.axes.values())
    wanted = grid.values.numpy().reshape(len(x), len(t), problem.unknowns)
    wanted = wanted[..., 0] + 1j * wanted[..., 1] if problem.unknowns > 1 else wanted[..., 0]
    low, high = problem.domain["x"]
    inside = x < high - 1e-9
    found = problem.solver(wanted[inside, 0].astype(complex), high - low, t, **problem.options())

    assert np.linalg.norm(found - wanted[inside]) < 1e-4 * np.linalg.norm(wanted)


def test_a_computed_soliton_is_exact():
    """The spectral solution of a periodic KdV soliton equals the closed form to six digits."""
    x, t = np.linspace(-4, 4, 257)[:-1], np.linspace(0, 1, 5)
    wave = np.stack(
        [kdv_soliton(0.5, 0.01)(torch.from_numpy(x), torch.tensor(float(time))).numpy() for time in t], axis=1
    )
    found = spectral.kdv(wave[:, 0].astype(complex), 8.0, t, dispersion=0.01)

    assert np.linalg.norm(found - wave) < 1e-6 * np.linalg.norm(wave)
