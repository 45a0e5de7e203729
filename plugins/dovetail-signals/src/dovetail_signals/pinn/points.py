"""Points as samples: where the equation holds, where the solution is known, and where it is to be compared."""

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
    """What is known of a point; a batch carries it as ``meta.where``."""

    #: The equation holds.
    INTERIOR = 0
    #: So it does, and the values are those that the solution starts with.
    INITIAL = 1
    #: So it does, and the values are given.
    BOUNDARY = 2
    #: So it does, and the solution is the same a period further.
    PERIODIC = 3
    #: A period further; made by the trainer, beside its point.
    PARTNER = 4
    #: The values of the solution itself.
    SOLUTION = 5


@final
@frozen(eq=False, repr=False)
class PointSamples:
    """Points of a problem: dicts with ``inputs`` (the coordinates), ``targets`` (the values), and ``where``.

    Attributes:
        problem: what they are points of.
        inputs: ``[points, coordinates]``.
        values: of the solution, ``[points, unknowns]``; 0 where nothing is known.
        where: ``[points]`` int64, a :class:`Where` each.
        passes: how often an epoch goes through them.
        axes: where the points are a grid, the values along each coordinate, by its letter.
    """

    #: Reading draws no random numbers.
    deterministic: ClassVar[bool] = True

    problem: Problem
    inputs: Tensor
    values: Tensor
    where: Tensor
    passes: int = 1
    axes: Mapping[str, Tensor] = field(factory=dict)
    #: Of a regression there are none.
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
            raise IndexError(f"there are {len(self)} samples, and no number {index}")
        place = index % len(self.inputs)
        return {"inputs": self.inputs[place], "targets": self.values[place], "where": self.where[place]}

    def get_batch(self, indices: Any) -> Batch:
        """Return a whole batch at once."""
        places = torch.as_tensor(indices) % len(self.inputs)
        return {
            "inputs": self.inputs[places],
            "targets": self.values[places],
            "meta": {"where": self.where[places]},
        }

    def subset(self, indices: Any) -> PointSamples:
        """Return the samples at ``indices``, to be gone through once."""
        places = torch.as_tensor(indices) % len(self.inputs)
        return PointSamples(self.problem, self.inputs[places], self.values[places], self.where[places])

    def move_interior(self, points: Tensor) -> None:
        """Put the interior points elsewhere: ``[interior points, coordinates]``."""
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
    """Draw the points to train on.

    Args:
        problem: what they are points of.
        interior: how many inside.
        initial: how many where time begins.
        boundary: how many at the ends of space, shared evenly among them.
        sampling: how they are drawn.
        seed: the run's seed.
        passes: how often an epoch goes through them.
        dtype: of coordinates and values.

    Raises:
        ValueError: there are to be points where the problem says nothing.
    """
    draw, size = SAMPLERS[sampling], len(problem.coordinates)
    lower, span = problem.lower, problem.upper - problem.lower
    kinds: list[tuple[Where, Tensor, Tensor]] = []

    def put(where: Where, points: Tensor, values: Tensor | None = None) -> None:
        kinds.append((where, points, points.new_zeros(len(points), problem.unknowns) if values is None else values))

    put(Where.INTERIOR, lower + span * draw(interior, size, seed, "pinn.interior"))
    if initial:
        if problem.initial is None:
            raise ValueError(f"initial = {initial}: the problem has no initial condition; set initial = 0")
        points = lower + span * draw(initial, size, seed, "pinn.initial")
        points[:, -1] = lower[-1]
        put(Where.INITIAL, points, problem.initial(points))
    if boundary:
        if problem.boundary is None:
            raise ValueError(f"boundary = {boundary}: the problem has no boundary condition; set boundary = 0")
        points = lower + span * draw(boundary, size, seed, "pinn.boundary")
        number = torch.arange(boundary)
        if problem.boundary == "periodic":
            axis = number % problem.space
            points[number, axis] = lower[axis]
            put(Where.PERIODIC, points)
        else:
            axis, end = number // 2 % problem.space, number % 2
            points[number, axis] = lower[axis] + end * span[axis]
            put(Where.BOUNDARY, points, problem.boundary(points))
    return PointSamples(
        problem,
        torch.cat([points for _, points, _ in kinds]).to(dtype),
        torch.cat([values for _, _, values in kinds]).to(dtype),
        torch.cat([torch.full((len(points),), where) for where, points, _ in kinds]),
        passes,
    )


def with_partners(batch: Batch, problem: Problem) -> Batch:
    """Return a batch in which each point on a periodic edge is followed, at the end, by the one a period further.

    ``meta.pair`` then says for each row which row is to agree with it; the others name themselves.

    Args:
        batch: on the CPU, where looking at values costs nothing.
        problem: tells the periods.
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
    # Only the edge that a point lies on: the lower end of one coordinate of space.
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
