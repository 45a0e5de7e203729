"""Points of PINNs: where they lie, what is known there, and how they are drawn."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pinn.data import pde_points
from dovetail_signals.pinn.points import Where, sample_points, with_partners
from dovetail_signals.pinn.problems import PROBLEMS, Problem, find_problem
from dovetail_signals.pinn.sampling import SAMPLERS, latin_hypercube, residual_weights, weighted_sample

SEEDS = st.integers(0, 2**63)


def drawn(name="burgers", **changed):
    """Points of a problem in double precision."""
    options = {"interior": 60, "initial": 12, "boundary": 10, "sampling": "latin_hypercube", "seed": 3}
    return sample_points(find_problem(name), **{**options, "dtype": torch.float64, **changed})


@given(SEEDS, st.integers(1, 200), st.integers(1, 3))
def test_a_latin_hypercube_has_one_point_in_each_slice(seed, count, dimensions):
    """Every one of n equal slices of every coordinate holds exactly one of n points."""
    found = latin_hypercube(count, dimensions, seed, "test")

    assert torch.equal((found * count).long().sort(dim=0).values, torch.arange(count)[:, None].expand(-1, dimensions))


@pytest.mark.parametrize("name", SAMPLERS)
@given(seed=SEEDS)
def test_draws_are_addressed(name, seed):
    """The same address gives the same points, whatever else was drawn; another round or stream gives others."""
    draw = SAMPLERS[name]
    first = draw(20, 2, seed, "a", 1)
    draw(7, 2, seed, "a", 1)
    torch.rand(3)

    assert torch.equal(first, draw(20, 2, seed, "a", 1))
    assert not torch.equal(first, draw(20, 2, seed, "a", 2))
    assert not torch.equal(first, draw(20, 2, seed, "b", 1))
    assert ((first >= 0) & (first < 1)).all()


def test_weighted_draws_follow_the_weights():
    """Over many rounds the first of a draw of one is chosen as often as its weight says; draws have no repetition."""
    weights = torch.tensor([1.0, 2.0, 5.0])
    chosen = torch.cat([weighted_sample(weights, 1, 0, "test", number) for number in range(4000)])

    assert torch.bincount(chosen) / 4000 == pytest.approx(weights / 8, abs=0.03)
    assert weighted_sample(torch.rand(50), 50, 0, "test").tolist() == list(range(50))
    with pytest.raises(ValueError, match="from 3 candidates"):
        weighted_sample(weights, 4, 0, "test")


def test_weights_of_residuals():
    """The published formula, on two equations; with exponent 0, or no residual at all, every point weighs the same."""
    residuals = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])

    assert residual_weights(residuals, 2, 1) == pytest.approx(torch.tensor([25, 1, 0]) / (26 / 3) + 1)
    assert residual_weights(residuals, 0, 1).unique().numel() == 1
    assert residual_weights(torch.zeros(3, 1), 1, 0).unique().numel() == 1


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("sampling", SAMPLERS)
def test_points_lie_where_they_say(name, sampling):
    """Interior points inside, initial ones where time begins, boundary ones at an end; with the values known there."""
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
    """Points are shared evenly among the ends of two coordinates; periodic ones among the coordinates."""
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
    """Each point on a periodic edge gets one at the other end at the same time; all other rows name themselves."""
    samples = drawn("kdv")
    batch = with_partners(samples.get_batch(range(len(samples))), samples.problem)
    where, pair, inputs = batch["meta"]["where"], batch["meta"]["pair"], batch["inputs"]
    rows = where == Where.PERIODIC

    assert len(inputs) == len(batch["targets"]) == 92
    assert torch.equal(inputs[pair[rows]] - inputs[rows], torch.tensor([[2.0, 0.0]]).double().expand(10, 2))
    assert (where[pair[rows]] == Where.PARTNER).all()
    assert torch.equal(pair[~rows], torch.arange(92)[~rows])


def test_batches_are_the_samples():
    """Whole batches hold what single samples do, and an epoch goes through the points as often as it should."""
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


def test_a_subset_is_made_of_points():
    """A limited split is still one of points, with the problem it is about."""
    part = drawn(passes=2).subset(np.array([5, 100]))

    assert torch.equal(part.inputs, drawn().inputs[[5, 18]])
    assert part.problem is PROBLEMS["burgers"] or part.problem == find_problem("burgers")
    assert len(part) == 2


def test_the_reference_of_a_file(tmp_path):
    """Axes by their letters and the values on their grid become the test split, in the order of the grid."""
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
def test_a_reference_that_does_not_fit_is_refused(tmp_path, arrays, message):
    """What is wrong with a file is said before anything is trained."""
    np.savez(tmp_path / "bad.npz", **arrays)

    with pytest.raises(ValueError, match=message):
        pde_points(problem="burgers", reference=tmp_path / "bad.npz")


def test_a_file_that_is_none_is_refused(tmp_path):
    """A missing file, and one that is no archive."""
    (tmp_path / "text.npz").write_text("hello")

    with pytest.raises(FileNotFoundError, match="no such file"):
        pde_points(problem="burgers", reference=tmp_path / "none.npz")
    with pytest.raises(ValueError, match="cannot be read"):
        pde_points(problem="burgers", reference=tmp_path / "text.npz")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"problem": "navier"}, "unknown 'navier'; use one of burgers, schrodinger"),
        ({"problem": "no_such_module:thing"}, "cannot import"),
        ({"problem": "math:pi"}, "not a Problem"),
        ({"problem": "heat", "coefficients": {"viscosity": 1.0}}, "it has diffusivity"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    """The message names what there is."""
    with pytest.raises(ValueError, match=message):
        pde_points(**options)


def test_validation_needs_a_solution(monkeypatch):
    """Where no solution is known there are no points of it to look at, and no test."""
    module = types.ModuleType("unsolved")
    module.unsolved = Problem(equation=PROBLEMS["heat"].equation, domain={"x": (0, 1), "t": (0, 1)})
    monkeypatch.setitem(sys.modules, "unsolved", module)
    options = {"problem": "unsolved:unsolved", "initial": 0, "boundary": 0}

    assert pde_points(**options).test is None
    with pytest.raises(ValueError, match="set reference"):
        pde_points(**options, validation=5)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"domain": {"t": (0, 1), "x": (0, 1)}}, "time 't' must come last"),
        ({"domain": {"x": (1, 1), "t": (0, 1)}}, "an interval for each coordinate"),
        ({"domain": {"x": (0, 1)}}, "no time"),
    ],
)
def test_a_problem_has_a_domain(changed, message):
    """An interval with two ends for each coordinate, time last, and time where there is an initial condition."""
    options = {
        "equation": PROBLEMS["heat"].equation,
        "domain": {"x": (0, 1), "t": (0, 1)},
        "initial": lambda p: p[:, :1],
    }
    with pytest.raises(ValueError, match=message):
        Problem(**{**options, **changed})


@pytest.mark.parametrize("name", ["initial", "boundary"])
def test_points_without_a_condition_are_refused(name):
    """Where nothing is known there is nothing to put points at."""
    bare = Problem(equation=PROBLEMS["heat"].equation, domain={"x": (0, 1), "t": (0, 1)})
    counts = {"initial": 0, "boundary": 0, name: 5}

    with pytest.raises(ValueError, match=f"set {name} = 0"):
        sample_points(bare, interior=5, sampling="uniform", seed=0, **counts)
