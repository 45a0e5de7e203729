"""Problems: an equation, where it holds, and what is known at the edges."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from attrs import evolve, field, frozen
from torch import Tensor

from dovetail_signals.pinn import equations, exact, spectral
from dovetail_signals.pinn.field import Field

if TYPE_CHECKING:
    from dovetail import Run

#: ``[points, coordinates]`` to ``[points, unknowns]``.
Known = Callable[[Tensor], Tensor]


@frozen(kw_only=True)
class Problem:
    """An initial and boundary value problem.

    Attributes:
        equation: ``(u: Field, **coefficients) -> [points, equations]``, zero for a solution.
        domain: lower and upper end of each coordinate, by its letter; time is ``t`` and comes last.
        initial: the values where t is at its lower end; None where there is no time.
        velocity: their derivative by t there, for an equation of second order in time.
        boundary: the values where a coordinate of space is at either end, ``"periodic"``, or None where nothing is
            known there.
        unknowns: how many functions are looked for.
        periodic_order: up to which derivative both ends of a period agree.
        coefficients: of the equation; those left out are its own defaults.
        exact: ``(points, **coefficients) -> values``, the solution, where it can be written down.
        solver: ``(initial values, period, times, **coefficients) -> [places, times]``, of a periodic problem in one
            dimension where it cannot: complex NumPy arrays, two unknowns as one complex number.
    """

    equation: Callable[..., Tensor]
    domain: Mapping[str, tuple[float, float]]
    initial: Known | None = None
    velocity: Known | None = None
    boundary: Known | Literal["periodic"] | None = None
    unknowns: int = 1
    periodic_order: int = 1
    coefficients: Mapping[str, float] = field(factory=dict)
    exact: Callable[..., Tensor] | None = None
    solver: Callable[..., Any] | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse a domain that is none, and an initial condition without time.

        Raises:
            ValueError: says what is wrong.
        """
        for letter, (low, high) in self.domain.items():
            if len(letter) != 1 or not low < high:
                raise ValueError(f"domain: '{letter}' from {low:g} to {high:g} is no coordinate with two ends")
        if "t" in self.domain and self.coordinates[-1] != "t":
            raise ValueError(f"domain: time comes last, got {', '.join(self.coordinates)}")
        if self.initial is not None and "t" not in self.domain:
            raise ValueError("initial: the domain has no time 't'")

    @property
    def coordinates(self) -> str:
        """The letters of the coordinates."""
        return "".join(self.domain)

    @property
    def lower(self) -> Tensor:
        """The lower ends, ``[coordinates]`` float64."""
        return torch.tensor([low for low, _ in self.domain.values()], dtype=torch.float64)

    @property
    def upper(self) -> Tensor:
        """The upper ends, ``[coordinates]`` float64."""
        return torch.tensor([high for _, high in self.domain.values()], dtype=torch.float64)

    @property
    def space(self) -> int:
        """How many coordinates are not time."""
        return len(self.coordinates.removesuffix("t"))

    def residual(self, u: Field) -> Tensor:
        """Return what the equation leaves over, ``[points, equations]``."""
        return self.equation(u, **self.coefficients)

    def options(self) -> dict[str, float]:
        """Return every coefficient, the equation's own defaults included."""
        parameters = inspect.signature(self.equation).parameters.values()
        return {
            **{
                parameter.name: parameter.default
                for parameter in parameters
                if parameter.default is not parameter.empty
            },
            **self.coefficients,
        }

    def solution(self) -> Known | None:
        """Return the exact solution with this problem's coefficients, or None where there is none in closed form."""
        solve, options = self.exact, self.options()
        return None if solve is None else lambda points: solve(points, **options)

    def with_coefficients(self, changed: Mapping[str, float]) -> Problem:
        """Return the problem with some coefficients changed.

        Raises:
            ValueError: its equation has no such coefficient.
        """
        known = [*inspect.signature(self.equation).parameters][1:]
        for name in changed:
            if name not in known:
                listed = ", ".join(known) or "none"
                raise ValueError(f"coefficients: the equation has no '{name}'; it has {listed}")
        return evolve(self, coefficients={**self.coefficients, **changed})


def _x(points: Tensor) -> Tensor:
    return points[:, :1]


def _zero(points: Tensor) -> Tensor:
    return torch.zeros_like(_x(points))


def _sech_pulse(points: Tensor) -> Tensor:
    pulse = 2 / torch.cosh(_x(points))
    return torch.cat([pulse, torch.zeros_like(pulse)], dim=1)


#: The problems known by name.
PROBLEMS: Final[Mapping[str, Problem]] = {
    "burgers": Problem(
        equation=equations.burgers,
        domain={"x": (-1, 1), "t": (0, 1)},
        initial=lambda points: -torch.sin(math.pi * _x(points)),
        boundary=_zero,
        exact=exact.burgers_sine,
    ),
    "schrodinger": Problem(
        equation=equations.schrodinger,
        domain={"x": (-5, 5), "t": (0, math.pi / 2)},
        initial=_sech_pulse,
        boundary="periodic",
        unknowns=2,
        solver=spectral.schrodinger,
    ),
    "kdv": Problem(
        equation=equations.kdv,
        domain={"x": (-1, 1), "t": (0, 1)},
        initial=lambda points: torch.cos(math.pi * _x(points)),
        boundary="periodic",
        periodic_order=2,
        solver=spectral.kdv,
    ),
    "allen_cahn": Problem(
        equation=equations.allen_cahn,
        domain={"x": (-1, 1), "t": (0, 1)},
        initial=lambda points: _x(points).square() * torch.cos(math.pi * _x(points)),
        boundary="periodic",
        solver=spectral.allen_cahn,
    ),
    "heat": Problem(
        equation=equations.heat,
        domain={"x": (0, 1), "t": (0, 1)},
        initial=lambda points: torch.sin(math.pi * _x(points)),
        boundary=_zero,
        exact=exact.heat_sine,
    ),
    "wave": Problem(
        equation=equations.wave,
        domain={"x": (0, 1), "t": (0, 1)},
        initial=lambda points: torch.sin(math.pi * _x(points)) + 0.5 * torch.sin(4 * math.pi * _x(points)),
        velocity=_zero,
        boundary=_zero,
        exact=exact.wave_sines,
    ),
}


def find_problem(name: str, coefficients: Mapping[str, float] | None = None) -> Problem:
    """Return the problem that a run file names.

    Args:
        name: one of ``PROBLEMS``, or ``"module:attribute"`` of a :class:`Problem` of your own.
        coefficients: those of the equation that differ from the problem's.

    Raises:
        ValueError: there is no such problem, or its equation no such coefficient.
    """
    found = _import_problem(name) if ":" in name else PROBLEMS.get(name)
    if found is None:
        raise ValueError(f"problem: '{name}' is none of {', '.join(PROBLEMS)}, nor \"module:attribute\" of your own")
    return found.with_coefficients(coefficients or {})


def require_same_problem(part: str, own: Problem, run: Run, *, coefficients: bool) -> None:
    """Refuse a part that is about another problem than the run's data, which may not say.

    Args:
        part: ``"loss"`` or ``"model"``, for the message.
        own: what the part is about.
        run: its data have a ``problem``.
        coefficients: whether those of the equation must be the same too.

    Raises:
        ValueError: the problems differ.
    """
    data: Any = getattr(run.parts.loaders.train.dataset, "problem", None)
    if not isinstance(data, Problem):
        return
    if evolve(data, coefficients={}) != evolve(own, coefficients={}):
        raise ValueError(f"{part}.problem is another one than data.problem: name the same in both")
    if coefficients and data.options() != own.options():
        raise ValueError(
            f"{part}.coefficients give {own.options()}, data.coefficients {data.options()}: write the same in both"
        )


def _import_problem(name: str) -> Problem:
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"problem: '{name}' cannot be imported: {error}; a module of your own is installed, or on PYTHONPATH"
        ) from error
    if not isinstance(found, Problem):
        raise ValueError(f"problem: '{name}' is a {type(found).__name__}, not a Problem")  # noqa: TRY004 (a value from a run file)
    return found
