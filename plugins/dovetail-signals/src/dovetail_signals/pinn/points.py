"""The points of a problem as a dataset: where the equation holds and where values are known."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from attrs import field, frozen
from torch import Tensor

from dovetail import Batch
from dovetail_signals.pinn.problems import Problem
from dovetail_signals.pinn.sampling import SAMPLERS, Sampling


class Where(enum.IntEnum):
    """The kind of a point, that is, what is known there; a batch has it as ``meta.where``."""

    #: Only the equation.
    INTERIOR = 0
    #: The equation and the initial values.
    INITIAL = 1
    #: The equation and the boundary values.
    BOUNDARY = 2
    #: The equation, and that the solution is equal one period further.
    PERIODIC = 3
    #: The point one period after a ``PERIODIC`` one; the trainer adds it to the batch.
    PARTNER = 4
    #: The solution.
    SOLUTION = 5


@final
@frozen(eq=False, repr=False)
class PointSamples:
    """The points of a problem; a sample has ``inputs`` (coordinates), ``targets`` (values) and ``where`` (kind).

    Attributes:
        problem: the problem.
        inputs: ``[points, coordinates]``.
        values: of the solution, ``[points, unknowns]``; 0 where unknown.
        where: ``[points]`` int64, each a :class:`Where`.
        passes: number of passes over the points in an epoch.
        axes: if the points form a grid, the values along each coordinate, by its letter.
    """

    #: Reading draws no random numbers.
    deterministic: ClassVar[bool] = True

    problem: Problem
    inputs: Tensor
    values: Tensor
    where: Tensor
    passes: int = 1
    axes: Mapping[str, Tensor] = field(factory=dict)
    #: None, as this is a regression.
    num_classes: None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The number of coordinates."""
        return tuple(self.inputs.shape[1:])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the points and their values."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.values, self.where):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.inputs) * self.passes

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        place = index % len(self.inputs)
        return {"inputs": self.inputs[place], "targets": self.values[place], "where": self.where[place]}

    def get_batch(self, indices: Any) -> Batch:
        """Return the samples at ``indices`` as one batch."""
        places = torch.as_tensor(indices) % len(self.inputs)
        return {
            "inputs": self.inputs[places],
            "targets": self.values[places],
            "meta": {"where": self.where[places]},
        }

    def subset(self, indices: Any) -> PointSamples:
        """Return a dataset of the samples at ``indices``, with one pass in an epoch."""
        places = torch.as_tensor(indices) % len(self.inputs)
        return PointSamples(self.problem, self.inputs[places], self.values[places], self.where[places])

    def move_interior(self, points: Tensor) -> None:
        """Replace the interior points by ``points``, ``[interior points, coordinates]``."""
        self.inputs[self.where == Where.INTERIOR] = points.to(self.inputs)


def sample_points(
    problem: Problem,
    *,
    interior: int,
    initial: int,
    boundary: int,
    sampling: Sampling,
    seed: int,
    passes: int = 1,
    dtype: torch.dtype = torch.float32,
) -> PointSamples:
    """Draw the training points of a problem.

    Args:
        problem: the problem.
        interior: number of points inside the domain.
        initial: number of points at the initial time.
        boundary: number of points at the ends of space, distributed evenly over the ends.
        sampling: the sampling method.
        seed: the run's seed.
        passes: number of passes over the points in an epoch.
        dtype: of coordinates and values.

    Raises:
        ValueError: points are requested for a condition that the problem does not have.
    """
    draw, size = SAMPLERS[sampling], len(problem.coordinates)
    lower, span = problem.lower, problem.upper - problem.lower
    kinds: list[tuple[Where, Tensor, Tensor]] = []

    def add(where: Where, points: Tensor, values: Tensor | None = None) -> None:
        kinds.append((where, points, points.new_zeros(len(points), problem.unknowns) if values is None else values))

    add(Where.INTERIOR, lower + span * draw(interior, size, seed, "pinn.interior"))
    if initial:
        if problem.initial is None:
            raise ValueError(f"initial = {initial}: the problem has no initial condition; set initial = 0")
        points = lower + span * draw(initial, size, seed, "pinn.initial")
        points[:, -1] = lower[-1]
        add(Where.INITIAL, points, problem.initial(points))
    if boundary:
        if problem.boundary is None:
            raise ValueError(f"boundary = {boundary}: the problem has no boundary condition; set boundary = 0")
        points = lower + span * draw(boundary, size, seed, "pinn.boundary")
        number = torch.arange(boundary)
        if problem.boundary == "periodic":
            axis = number % problem.space
            points[number, axis] = lower[axis]
            add(Where.PERIODIC, points)
        else:
            axis, end = number // 2 % problem.space, number % 2
            points[number, axis] = lower[axis] + end * span[axis]
            add(Where.BOUNDARY, points, problem.boundary(points))
    return PointSamples(
        problem,
        torch.cat([points for _, points, _ in kinds]).to(dtype),
        torch.cat([values for _, _, values in kinds]).to(dtype),
        torch.cat([torch.full((len(points),), where) for where, points, _ in kinds]),
        passes,
    )


def with_partners(batch: Batch, problem: Problem) -> Batch:
    """Append to a batch, for each point on a periodic edge, the point one period further.

    ``meta.pair`` has for each such point the row of its partner, and for every other point its own row.

    Args:
        batch: on the CPU, where reading values does not synchronise a device.
        problem: the problem, whose domain is the period.
    """
    meta, inputs = batch["meta"], batch["inputs"]
    where = meta["where"]
    if not isinstance(inputs, Tensor) or not isinstance(where, Tensor):
        return batch
    rows = (where == Where.PERIODIC).nonzero()[:, 0]
    if not len(rows):
        return batch
    lower, upper = problem.lower.to(inputs), problem.upper.to(inputs)
    further = inputs[rows]
    # Move along the axis of the edge only, the one whose coordinate is at its lower end.
    edge = further == lower
    if problem.initial is not None:
        edge[:, -1] = False
    further = torch.where(edge, upper, further)
    pair = torch.arange(len(inputs) + len(rows))
    pair[rows] = torch.arange(len(inputs), len(pair))
    return {
        "inputs": torch.cat([inputs, further]),
        "targets": torch.cat([batch["targets"], batch["targets"][rows]]),
        "meta": {"where": torch.cat([where, torch.full_like(rows, Where.PARTNER)]), "pair": pair},
    }
