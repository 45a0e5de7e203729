"""Conditions that a network satisfies by its form, whatever its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor

from dovetail_signals.pinn.field import Field
from dovetail_signals.pinn.problems import Known, Problem

_CORNER: Final = 1e-6  # by how much initial and boundary values may differ where they meet
_TIMES: Final = 65  # at which the boundary values are compared with the initial ones
_ROUNDING: Final = 1e-12


@final
class HardConstraints:
    """Turns a network's output N into ``A + s(t)^p b(x) N``, which has the right values where s or b is zero.

    With hard initial values, s is the time from 0 to 1, and p is 2 where their velocity is given too, else 1. With hard
    boundary values, b is ``4ξ(1-ξ)`` on the place ξ from 0 to 1. A takes the known values there, and blends them in
    between. A periodic boundary needs no factor: the network then sees nothing but sines and cosines of the place.

    Source: Lagaris, Likas and Fotiadis, «Artificial neural networks for solving ordinary and partial differential
    equations», IEEE Trans. Neural Networks 9, 1998, section III.

    Args:
        problem: whose conditions they are.
        hard: which of them: ``initial``, ``boundary``.

    Raises:
        ValueError: the problem has no such condition; its boundary is not that of an interval; or initial and boundary
            values, or the ends of a period, contradict one another.
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
            raise ValueError(f"hard: boundary values can be built in on an interval, not in {problem.space} dimensions")
        if self._initial is not None and self._boundary is not None:
            self._check_corners(self._initial, self._boundary)
        if self._initial is not None and problem.boundary == "periodic":
            self._check_period(self._initial)
        self._blended = self._boundary is not None and self._boundary_differs()

    def _check_corners(self, initial: Known, boundary: Known) -> None:
        corners = torch.stack([self._problem.lower, self._problem.upper])
        corners[:, -1] = self._problem.lower[-1]
        gap = (initial(corners) - boundary(corners)).abs().max().item()
        if gap > _CORNER:
            raise ValueError(f"hard: initial and boundary values differ by {gap:g} where they meet; leave one out")

    def _check_period(self, initial: Known) -> None:
        """Refuse initial values that are not periodic themselves: the network could not make up for it."""
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
                if gap > _CORNER:
                    raise ValueError(
                        f"hard: derivative {order} of the initial values by {letter} differs by {gap:.3g} between the "
                        "ends of a period; leave initial out"
                    )

    def _boundary_differs(self) -> bool:
        """Say whether A differs from the initial values at either end of the interval, at any of some times."""
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
        """Return what the initial values, held constant, lack of the boundary's at one end."""
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
