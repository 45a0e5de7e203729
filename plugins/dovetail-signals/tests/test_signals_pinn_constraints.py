"""Hard constraints hold for any weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pinn.field import Field
from dovetail_signals.pinn.model import PINN
from dovetail_signals.pinn.problems import PROBLEMS, Problem, find_problem

SEEDS = st.integers(0, 10_000)


DIRICHLET = [name for name, problem in PROBLEMS.items() if callable(problem.boundary)]


PERIODIC = [name for name, problem in PROBLEMS.items() if problem.boundary == "periodic"]


def network(seed=0, **options):
    """Return a small network in double precision, with weights far from zero."""
    torch.manual_seed(seed)
    made = PINN((2,), **{"hidden_dims": [9, 9], "dtype": "float64", **options})
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def places(problem, x=None, t=None, count=20, seed=0):
    """Return random points of a problem, with fixed coordinates if given."""
    unit = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = problem.lower + (problem.upper - problem.lower) * unit
    for place, value in enumerate((x, t)):
        if value is not None:
            found[:, place] = value
    return found


@pytest.mark.parametrize("name", [*DIRICHLET, "kdv"])
@given(seed=SEEDS)
def test_hard_initial_values_hold(name, seed):
    """At the initial time, values and a given velocity equal the problem's to the last digits."""
    problem = find_problem(name)
    model = network(seed, problem=name, hard=["initial"])
    at = places(problem, t=problem.domain["t"][0], seed=seed).requires_grad_()
    found = model(at)

    assert torch.allclose(found, problem.initial(at), atol=1e-12)
    if problem.velocity is not None:
        assert Field(found, at, "xt")("t").abs().max() < 1e-12


@pytest.mark.parametrize("hard", [["boundary"], ["initial", "boundary"]], ids=str)
@pytest.mark.parametrize("name", DIRICHLET)
@given(seed=SEEDS)
def test_hard_boundary_values_hold(name, hard, seed):
    """At both ends, values equal the problem's; with both conditions, initial values hold as well."""
    problem = find_problem(name)
    model = network(seed, problem=name, hard=hard)
    for end in problem.domain["x"]:
        at = places(problem, x=end, seed=seed)
        assert torch.allclose(model(at), problem.boundary(at), atol=1e-12)
    if "initial" in hard:
        at = places(problem, t=problem.domain["t"][0], seed=seed)
        assert torch.allclose(model(at), problem.initial(at), atol=1e-12)


@pytest.mark.parametrize("harmonics", [1, 3])
@pytest.mark.parametrize("name", PERIODIC)
@given(seed=SEEDS)
def test_hard_periodic_boundaries_hold(name, harmonics, seed):
    """Values and their first three derivatives agree at both ends of the period."""
    problem = find_problem(name)
    model = network(seed, problem=name, hard=["boundary"], harmonics=harmonics)
    fields = []
    for end in problem.domain["x"]:
        at = places(problem, x=end, seed=seed).requires_grad_()
        fields.append(Field(model(at), at, "xt"))

    for by in ("x", "xx", "xxx"):
        assert torch.allclose(fields[0](by), fields[1](by), rtol=1e-8, atol=1e-8)
    assert torch.allclose(fields[0].value, fields[1].value)


def test_time_dependent_boundary_values_hold():
    """Boundary values that depend on time hold together with a matching initial condition."""
    moving = Problem(
        equation=PROBLEMS["heat"].equation,
        domain={"x": (0, 2), "t": (0, 1)},
        initial=lambda p: torch.cos(p[:, :1]),
        boundary=lambda p: torch.cos(p[:, :1]) * (1 + p[:, 1:]),
    )
    from dovetail_signals.pinn.constraints import HardConstraints

    constrain = HardConstraints(moving, ["initial", "boundary"])
    noise = torch.randn(20, 1, dtype=torch.float64)
    for at in (places(moving, x=0), places(moving, x=2)):
        assert torch.allclose(constrain(at, noise), moving.boundary(at))
    assert torch.allclose(constrain(places(moving, t=0), noise), moving.initial(places(moving, t=0)))
    inside = places(moving)
    assert not torch.allclose(constrain(inside, noise), constrain(inside, 2 * noise))


@pytest.mark.parametrize(
    "problem, hard, message",
    [
        ({"initial": None}, ["initial"], "no initial condition"),
        ({"boundary": None}, ["boundary"], "no boundary condition"),
        ({"boundary": lambda p: 1 + 0 * p[:, :1]}, ["initial", "boundary"], "differ by 1"),
        (
            {"domain": {"x": (0, 1), "y": (0, 1), "t": (0, 1)}},
            ["boundary"],
            "need one dimension of space, the problem has 2",
        ),
        (
            {"boundary": "periodic", "initial": lambda p: p[:, :1]},
            ["initial"],
            "derivative 0 of the initial values by x differs by 1 ",
        ),
        (
            {"boundary": "periodic", "initial": lambda p: (p[:, :1] - 0.5) ** 2},
            ["initial"],
            "derivative 1 of the initial values by x differs by 2 ",
        ),
    ],
)
def test_impossible_conditions_raise(problem, hard, message):
    """The error says why."""
    from dovetail_signals.pinn.constraints import HardConstraints

    given_ = {
        "equation": PROBLEMS["heat"].equation,
        "domain": {"x": (0, 1), "t": (0, 1)},
        "initial": lambda p: 0 * p[:, :1],
        "boundary": lambda p: 0 * p[:, :1],
    }
    with pytest.raises(ValueError, match=message):
        HardConstraints(Problem(**{**given_, **problem}), hard)
