"""Hard constraints: initial and boundary conditions that hold by construction, for any weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor

from dovetail_signals.pinn.field import Field
from dovetail_signals.pinn.problems import Known, Problem

_TOLERANCE: Final = 1e-6  # largest difference of initial and boundary values where they meet
_TIMES: Final = 65  # number of times at which boundary and initial values are compared
_ROUNDING: Final = 1e-12


@final
class HardConstraints:
    """Map a network's output N to ``A + s(t)^p b(x) N``, which has the given values where s or b is zero.

    With hard initial values, s is the time scaled to 0 … 1; p is 2 if the initial velocity is given, else 1. With hard
    boundary values, b is ``4ξ(1-ξ)`` for the position ξ scaled to 0 … 1. A interpolates between the given values. A
    periodic boundary needs no factor: the network then sees only sines and cosines of the position.

    Source: Lagaris, Likas and Fotiadis, «Artificial neural networks for solving ordinary and partial differential
    equations», IEEE Trans. Neural Networks 9, 1998, section III.

    Args:
        problem: the problem with the conditions.
        hard: the conditions to build in: ``initial``, ``boundary``, or both.

    Raises:
        ValueError: the problem lacks such a condition, boundary values are not those of an interval, or initial and
            boundary values or the ends of a period contradict one another.
    """

    def __init__(self, problem: Problem, hard: Sequence[str]) -> None:
        self._problem = problem
        for name in hard:
            if getattr(problem, name) is None:
                raise ValueError(f"hard: the problem has no {name} condition")
        self._initial = problem.initial if "initial" in hard else None
        given = problem.boundary if "boundary" in hard else None
        self.periodic: Final = given == "periodic"
        self._boundary: Known | None = given if callable(given) else None
        if self._boundary is not None and problem.space != 1:
            raise ValueError(f"hard: boundary values need one dimension of space, the problem has {problem.space}")
        if self._initial is not None and self._boundary is not None:
            self._check_corners(self._initial, self._boundary)
        if self._initial is not None and problem.boundary == "periodic":
            self._check_period(self._initial)
        self._blended = self._boundary is not None and self._boundary_differs()

    def _check_corners(self, initial: Known, boundary: Known) -> None:
        corners = torch.stack([self._problem.lower, self._problem.upper])
        corners[:, -1] = self._problem.lower[-1]
        gap = (initial(corners) - boundary(corners)).abs().max().item()
        if gap > _TOLERANCE:
            raise ValueError(f"hard: initial and boundary values differ by {gap:g} where they meet; remove one of them")

    def _check_period(self, initial: Known) -> None:
        """Raise ValueError if the initial values are not periodic, which the network could not correct."""
        problem = self._problem
        ends = torch.stack([problem.lower, problem.lower]).requires_grad_()
        shift = torch.zeros_like(problem.lower)
        shift[: problem.space] = (problem.upper - problem.lower)[: problem.space]
        points = ends + torch.stack([0 * shift, shift])
        u = Field(initial(points), points, problem.coordinates)
        for order in range(problem.periodic_order + 1):
            for letter in problem.coordinates[: problem.space]:
                found = u(letter * order) if order else u.value
                gap = (found[0] - found[1]).abs().max().item()
                if gap > _TOLERANCE:
                    raise ValueError(
                        f"hard: derivative {order} of the initial values by {letter} differs by {gap:.3g} between the "
                        "ends of a period; remove initial"
                    )

    def _boundary_differs(self) -> bool:
        """Return whether boundary values and initial values differ at either end of the interval, at any time."""
        problem = self._problem
        points = problem.lower + (problem.upper - problem.lower) * torch.linspace(0, 1, _TIMES)[:, None].double()
        ends = (problem.lower[0], problem.upper[0])
        return any(self._boundary_correction(points, end).abs().max().item() > _ROUNDING for end in ends)

    def __call__(self, points: Tensor, output: Tensor) -> Tensor:
        """Return the constrained values, ``[points, unknowns]``."""
        lower, upper = self._problem.lower.to(points), self._problem.upper.to(points)
        known = torch.zeros_like(output)
        if self._initial is not None:
            since = points[:, -1:] - lower[-1]
            start = torch.cat([points[:, :-1], lower[-1:].expand(len(points), 1)], dim=1)
            known = self._initial(start)
            time = since / (upper[-1] - lower[-1])
            if self._problem.velocity is not None:
                known = known + since * self._problem.velocity(start)
                time = time.square()
            output = time * output
        if self._boundary is not None:
            place = (points[:, :1] - lower[0]) / (upper[0] - lower[0])
            output = 4 * place * (1 - place) * output
            if self._blended:
                known = (
                    known
                    + (1 - place) * self._boundary_correction(points, lower[0])
                    + place * self._boundary_correction(points, upper[0])
                )
        return known + output

    def _boundary_correction(self, points: Tensor, end: Tensor) -> Tensor:
        """Return the boundary values minus the initial part of A, at one end of the interval."""
        edge = torch.cat([end.expand(len(points), 1), points[:, 1:]], dim=1)
        values: Tensor = self._boundary(edge) if self._boundary is not None else torch.zeros_like(points[:, :1])
        if self._initial is None:
            return values
        lower = self._problem.lower.to(points)
        start = torch.cat([edge[:, :-1], lower[-1:].expand(len(points), 1)], dim=1)
        known = self._initial(start)
        if self._problem.velocity is not None:
            known = known + (points[:, -1:] - lower[-1]) * self._problem.velocity(start)
        return values - known
