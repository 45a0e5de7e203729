"""The dataset of a problem: training points and a reference solution."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dovetail import AtLeast, Splits
from dovetail_signals.pinn.points import PointSamples, Where, sample_points
from dovetail_signals.pinn.problems import Problem, find_problem
from dovetail_signals.pinn.sampling import Sampling, weighted_sample

DType = Literal["float32", "float64"]
Count = Annotated[int, AtLeast(0)]

#: Values along each coordinate of the grid of an exact or computed solution.
_ALONG_SPACE: Final = 256
_ALONG_TIME: Final = 100


def pde_points(
    *,
    problem: str,
    coefficients: Mapping[str, float] | None = None,
    interior: Annotated[int, AtLeast(1)] = 10_000,
    initial: Count = 50,
    boundary: Count = 50,
    sampling: Sampling = "latin_hypercube",
    passes: Annotated[int, AtLeast(1)] = 1,
    reference: Path | None = None,
    validation: Count = 0,
    dtype: DType = "float32",
    seed: int = 0,
) -> Splits:
    """Return the training points of a problem, and a solution on a grid as the test split.

    The training split has ``interior + initial + boundary`` points. For full batches, set ``loader.batch_size`` to this
    number and ``loader.shuffle`` to false.

    Args:
        problem: ``burgers``, ``schrodinger``, ``kdv``, ``allen_cahn``, ``heat``, ``wave``, or ``"module:attribute"`` of
            a ``Problem`` of your own.
        coefficients: coefficients of the equation to change from the problem's.
        interior: number of points inside the domain, where only the equation is known.
        initial: number of points at the initial time; 0 if the model satisfies the initial condition by itself.
        boundary: number of points at the ends of space; 0 if the model satisfies the boundary condition by itself.
        sampling: ``latin_hypercube`` stratifies each coordinate, ``uniform`` draws points independently.
        passes: number of passes over the points in an epoch.
        reference: a ``.npz`` with a solution: a vector for each coordinate, by its letter, and ``u`` (or a complex
            ``h``) on their grid. By default the problem's solution in closed form or by a spectral method; without
            either, there is no test split.
        validation: number of random points of the solution to validate on.
        dtype: of coordinates and values.
        seed: draws the points; the run's seed by default.

    Raises:
        ValueError: the problem is unknown, or the reference does not fit it.
        FileNotFoundError: the reference does not exist.
    """
    found = find_problem(problem, coefficients)
    precision = getattr(torch, dtype)
    train = sample_points(
        found,
        interior=interior,
        initial=initial,
        boundary=boundary,
        sampling=sampling,
        seed=seed,
        passes=passes,
        dtype=precision,
    )
    test = solution_grid(found, reference, precision)
    if validation and test is None:
        raise ValueError("validation: the problem has no known solution to draw points from; set reference")
    return Splits(train, _subset(test, validation, seed) if test is not None and validation else None, test)


def solution_grid(problem: Problem, reference: Path | None, dtype: torch.dtype) -> PointSamples | None:
    """Return a solution on a grid: from the file, else the exact one, else a computed one, else None.

    Raises:
        ValueError: the file does not fit the problem.
        FileNotFoundError: the file does not exist.
    """
    exact = problem.solution()
    if reference is not None:
        axes, values = _read(problem, Path(reference).expanduser())
    elif exact is not None:
        axes = {
            letter: torch.linspace(low, high, _ALONG_TIME if letter == "t" else _ALONG_SPACE, dtype=torch.float64)
            for letter, (low, high) in problem.domain.items()
        }
        values = exact(_grid(axes))
    elif problem.solver is not None:
        axes, values = _solve(problem)
    else:
        return None
    points = _grid(axes).to(dtype)
    where = torch.full((len(points),), Where.SOLUTION)
    return PointSamples(problem, points, values.to(dtype), where, axes=axes)


def _solve(problem: Problem) -> tuple[dict[str, Tensor], Tensor]:
    """Compute the solution of a periodic problem in one dimension, without the end of the period."""
    (space, (low, high)), (time, (begin, end)) = problem.domain.items()
    places = torch.linspace(low, high, 2 * _ALONG_SPACE + 1, dtype=torch.float64)[:-1]
    times = torch.linspace(begin, end, _ALONG_TIME, dtype=torch.float64)
    if problem.initial is None or problem.solver is None:
        raise ValueError("reference: the problem's solver needs its initial values")
    start = problem.initial(torch.stack([places, torch.full_like(places, begin)], dim=1)).numpy()
    values = start[:, 0] + 1j * start[:, 1] if problem.unknowns > 1 else start[:, 0]
    found = problem.solver(values, high - low, times.numpy(), **problem.options())
    return {space: places, time: times}, _columns(found if problem.unknowns > 1 else found.real)


def _columns(solution: npt.NDArray[Any]) -> Tensor:
    """Return values on a grid as ``[points, unknowns]``, with a complex number as two unknowns."""
    columns = [solution.real, solution.imag] if np.iscomplexobj(solution) else [solution]
    return torch.from_numpy(np.stack([column.astype(np.float64).ravel() for column in columns], axis=1))


def _grid(axes: Mapping[str, Tensor]) -> Tensor:
    return torch.cartesian_prod(*axes.values()).reshape(-1, len(axes))


def _read(problem: Problem, path: Path) -> tuple[dict[str, Tensor], Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"reference: no such file '{path}'")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"reference: '{path}' cannot be read: {error}") from error
    needed = [*problem.coordinates, "h" if "h" in arrays else "u"]
    for name in needed:
        if name not in arrays:
            raise ValueError(f"reference: '{path}' has no array '{name}'; it has {', '.join(arrays)}")
    axes = {letter: torch.from_numpy(arrays[letter].astype(np.float64).ravel()) for letter in problem.coordinates}
    for letter, (low, high) in problem.domain.items():
        values, slack = axes[letter], 1e-6 * (high - low)
        if values.min() < low - slack or values.max() > high + slack:
            raise ValueError(f"reference: '{letter}' of '{path}' leaves the domain, {low:g} to {high:g}")
    solution = arrays[needed[-1]]
    if solution.shape != tuple(map(len, axes.values())):
        shape = " × ".join(str(len(axis)) for axis in axes.values())
        raise ValueError(f"reference: '{needed[-1]}' of '{path}' has shape {solution.shape} on a grid of {shape}")
    values = _columns(solution)
    if values.shape[1] != problem.unknowns:
        raise ValueError(f"reference: '{path}' has {values.shape[1]} unknown(s), the problem has {problem.unknowns}")
    return axes, values


def _subset(test: PointSamples, count: int, seed: int) -> PointSamples:
    chosen = weighted_sample(torch.ones(len(test)), min(count, len(test)), seed, "pinn.validation")
    return PointSamples(test.problem, test.inputs[chosen], test.values[chosen], test.where[chosen])
