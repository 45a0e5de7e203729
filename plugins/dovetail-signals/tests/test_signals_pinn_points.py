"""Training points: where they lie and what is known there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dovetail_signals.pinn.points import Where, sample_points, with_partners
from dovetail_signals.pinn.problems import PROBLEMS, Problem, find_problem
from dovetail_signals.pinn.sampling import SAMPLERS


def drawn(name="burgers", **changed):
    """Return training points of a problem in double precision."""
    options = {"interior": 60, "initial": 12, "boundary": 10, "sampling": "latin_hypercube", "seed": 3}
    return sample_points(find_problem(name), **{**options, "dtype": torch.float64, **changed})


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("sampling", SAMPLERS)
def test_points_lie_in_their_places(name, sampling):
    """Interior points inside, initial ones at the initial time, boundary ones at an end, with the known values."""
    samples, problem = drawn(name, sampling=sampling), find_problem(name)
    inputs, targets, where = samples.inputs, samples.values, samples.where
    edge = Where.PERIODIC if problem.boundary == "periodic" else Where.BOUNDARY
    start, ends = inputs[where == Where.INITIAL], inputs[where == edge]

    assert [int((where == kind).sum()) for kind in (Where.INTERIOR, Where.INITIAL, edge)] == [60, 12, 10]
    assert ((inputs >= problem.lower) & (inputs <= problem.upper)).all()
    assert (start[:, -1] == problem.lower[-1]).all()
    assert torch.equal(targets[where == Where.INITIAL], problem.initial(start))
    if edge == Where.BOUNDARY:
        assert ends[:, 0].unique().tolist() == list(problem.domain["x"])
        assert torch.equal(targets[where == edge], problem.boundary(ends))
    else:
        assert (ends[:, 0] == problem.lower[0]).all()
    assert targets.shape == (82, problem.unknowns)


def test_a_square_has_four_sides():
    """Boundary points are distributed evenly over the ends of two coordinates, periodic ones over the coordinates."""
    square = {"x": (0, 1), "y": (2, 4), "t": (0, 1)}
    options = {"interior": 4, "initial": 0, "boundary": 8, "sampling": "uniform", "seed": 0, "dtype": torch.float64}
    held = sample_points(
        Problem(equation=PROBLEMS["heat"].equation, domain=square, boundary=lambda p: 0 * p[:, :1]), **options
    )
    sides = held.inputs[held.where == Where.BOUNDARY]

    assert [int((sides[:, axis] == end).sum()) for axis, end in ((0, 0), (0, 1), (1, 2), (1, 4))] == [2, 2, 2, 2]
    round_about = Problem(equation=PROBLEMS["heat"].equation, domain=square, boundary="periodic")
    batch = with_partners(sample_points(round_about, **options).get_batch(range(12)), round_about)
    rows = (batch["meta"]["where"] == Where.PERIODIC).nonzero()[:, 0]
    moved = batch["inputs"][batch["meta"]["pair"][rows]] - batch["inputs"][rows]
    assert moved.tolist() == [[1, 0, 0], [0, 2, 0]] * 4


def test_partners_are_a_period_further():
    """Each point on a periodic edge gets a partner at the other end at the same time; other rows are their own pair."""
    samples = drawn("kdv")
    batch = with_partners(samples.get_batch(range(len(samples))), samples.problem)
    where, pair, inputs = batch["meta"]["where"], batch["meta"]["pair"], batch["inputs"]
    rows = where == Where.PERIODIC

    assert len(inputs) == len(batch["targets"]) == 92
    assert torch.equal(inputs[pair[rows]] - inputs[rows], torch.tensor([[2.0, 0.0]]).double().expand(10, 2))
    assert (where[pair[rows]] == Where.PARTNER).all()
    assert torch.equal(pair[~rows], torch.arange(92)[~rows])


def test_batches_equal_single_samples():
    """A batch holds what single samples do, and an epoch makes the requested number of passes."""
    samples = drawn(passes=3)
    batch = samples.get_batch([0, 81, 82, 245])
    single = [samples[index] for index in (0, 81, 82, 245)]

    assert len(samples) == 246
    assert torch.equal(batch["inputs"], torch.stack([sample["inputs"] for sample in single]))
    assert torch.equal(batch["targets"], torch.stack([sample["targets"] for sample in single]))
    assert torch.equal(batch["meta"]["where"], torch.stack([sample["where"] for sample in single]))
    assert torch.equal(samples[0]["inputs"], samples[82]["inputs"])
    with pytest.raises(IndexError):
        samples[246]


def test_a_subset_keeps_the_problem():
    """A subset is a dataset of points of the same problem."""
    part = drawn(passes=2).subset(np.array([5, 100]))

    assert torch.equal(part.inputs, drawn().inputs[[5, 18]])
    assert part.problem is PROBLEMS["burgers"] or part.problem == find_problem("burgers")
    assert len(part) == 2


@pytest.mark.parametrize("name", ["initial", "boundary"])
def test_points_without_a_condition_raise(name):
    """A problem without a condition cannot have points for it."""
    bare = Problem(equation=PROBLEMS["heat"].equation, domain={"x": (0, 1), "t": (0, 1)})
    counts = {"initial": 0, "boundary": 0, name: 5}

    with pytest.raises(ValueError, match=f"set {name} = 0"):
        sample_points(bare, interior=5, sampling="uniform", seed=0, **counts)
