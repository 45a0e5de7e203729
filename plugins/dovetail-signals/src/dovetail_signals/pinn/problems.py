"""Problems: an equation, its domain, and its initial and boundary conditions."""

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

#: A function from ``[points, coordinates]`` to ``[points, unknowns]``.
Known = Callable[[Tensor], Tensor]


@frozen(kw_only=True)
class Problem:
    """An initial and boundary value problem.

    Attributes:
        equation: ``(u: Field, **coefficients) -> [points, equations]``, zero for a solution.
        domain: lower and upper end of each coordinate, by its letter; time is ``t`` and comes last.
        initial: the values at the lower end of t; None if there is no time.
        velocity: the derivative by t at the lower end of t, for an equation of second order in time.
        boundary: the values at both ends of each coordinate of space, ``"periodic"``, or None if unknown.
        unknowns: number of unknown functions.
        periodic_order: highest derivative that must agree at both ends of a period.
        coefficients: coefficients of the equation that differ from its defaults.
        exact: ``(points, **coefficients) -> values``, the solution in closed form, if there is one.
        solver: ``(initial values, period, times, **coefficients) -> [places, times]``, a numerical solver of a periodic
            problem in one dimension, for complex NumPy arrays with two unknowns as one complex number.
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
        """Check the domain and the initial condition.

        Raises:
            ValueError: an interval is empty, time is not the last coordinate, or an initial condition has no time.
        """
        for letter, (low, high) in self.domain.items():
            if len(letter) != 1 or not low < high:
                raise ValueError(
                    f"domain: needs a letter and an interval for each coordinate, got '{letter}': {low:g} to {high:g}"
                )
        if "t" in self.domain and self.coordinates[-1] != "t":
            raise ValueError(f"domain: time 't' must come last, got {', '.join(self.coordinates)}")
        if self.initial is not None and "t" not in self.domain:
            raise ValueError("initial: the domain has no time coordinate 't'")

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
        """The number of coordinates of space."""
        return len(self.coordinates.removesuffix("t"))

    def residual(self, u: Field) -> Tensor:
        """Return the residual of the equation, ``[points, equations]``."""
        return self.equation(u, **self.coefficients)

    def options(self) -> dict[str, float]:
        """Return all coefficients, including the equation's defaults."""
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
        """Return the solution in closed form for this problem's coefficients, or None if there is none."""
        solve, options = self.exact, self.options()
        return None if solve is None else lambda points: solve(points, **options)

    def with_coefficients(self, changed: Mapping[str, float]) -> Problem:
        """Return the problem with some coefficients changed.

        Raises:
            ValueError: the equation does not have such a coefficient.
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


#: The built-in problems by name.
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
    """Return a problem by name.

    Args:
        name: one of ``PROBLEMS``, or ``"module:attribute"`` of a :class:`Problem` of your own.
        coefficients: coefficients of the equation to change from the problem's.

    Raises:
        ValueError: the problem is unknown, or its equation lacks a coefficient.
    """
    found = _import_problem(name) if ":" in name else PROBLEMS.get(name)
    if found is None:
        raise ValueError(
            f"problem: unknown '{name}'; use one of {', '.join(PROBLEMS)}, or your own as \"module:attribute\""
        )
    return found.with_coefficients(coefficients or {})


def require_same_problem(part: str, own: Problem, run: Run, *, coefficients: bool) -> None:
    """Check that a part and the run's data are about the same problem; other datasets have none and pass.

    Args:
        part: ``"loss"`` or ``"model"``, for the message.
        own: the part's problem.
        run: the run.
        coefficients: whether the coefficients of the equation must be equal too.

    Raises:
        ValueError: the problems or coefficients differ.
    """
    data: Any = getattr(run.parts.loaders.train.dataset, "problem", None)
    if not isinstance(data, Problem):
        return
    if evolve(data, coefficients={}) != evolve(own, coefficients={}):
        raise ValueError(f"{part}.problem and data.problem differ; set both to the same problem")
    if coefficients and data.options() != own.options():
        raise ValueError(
            f"{part}.coefficients give {own.options()}, but data.coefficients {data.options()}; set both to the same"
        )


def _import_problem(name: str) -> Problem:
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"problem: cannot import '{name}': {error}; install the module, or add its folder to PYTHONPATH"
        ) from error
    if not isinstance(found, Problem):
        raise ValueError(f"problem: '{name}' is a {type(found).__name__}, not a Problem")  # noqa: TRY004 (a value from a run file)
    return found
