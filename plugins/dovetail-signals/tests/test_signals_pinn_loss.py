"""The PDE loss: each part is the mean square that it claims to be."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail import ModelOutput
from dovetail_signals.pinn.causality import Causality
from dovetail_signals.pinn.loss import PDELoss, residual_at
from dovetail_signals.pinn.points import Where, sample_points, with_partners
from dovetail_signals.pinn.problems import PROBLEMS, find_problem

CLOSED = [name for name, problem in PROBLEMS.items() if problem.exact]


def batch_of(problem, *, interior=40, initial=10, boundary=10, seed=0):
    """Return a batch as the trainer makes it, with partners and inputs that require gradients."""
    samples = sample_points(
        problem,
        interior=interior,
        initial=initial,
        boundary=boundary,
        sampling="uniform",
        seed=seed,
        dtype=torch.float64,
    )
    batch = with_partners(samples.get_batch(range(len(samples))), problem)
    return {**batch, "inputs": batch["inputs"].requires_grad_()}


def parts_of(loss, solve, batch):
    """Return the loss of a function and its parts as numbers."""
    result = loss(ModelOutput(solve(batch["inputs"])), batch)
    return result, {name: part.item() for name, part in result.parts.items()}


@pytest.mark.parametrize("name", CLOSED)
@given(seed=st.integers(0, 1000))
def test_a_solution_has_no_loss(name, seed):
    """Every part of the loss of a solution in closed form is zero.

    That of Burgers' equation has the square root of time in it, whose derivative is infinite at the beginning.
    """
    problem = find_problem(name)
    result, parts = parts_of(
        PDELoss(name), problem.solution(), batch_of(problem, initial=0 if name == "burgers" else 10, seed=seed)
    )

    assert set(parts) == {"residual", "initial", "boundary"}
    assert result.total < 1e-12
    assert max(parts.values()) < 1e-12


def test_parts_are_mean_squares():
    """For a function with known derivatives, each part equals a computation by hand."""
    problem = find_problem("heat")
    batch = batch_of(problem)
    result, parts = parts_of(
        PDELoss("heat", residual_weight=2.0, initial_weight=3.0, boundary_weight=5.0),
        lambda p: p[:, :1] ** 2 + p[:, 1:] ** 3,
        batch,
    )
    x, t = batch["inputs"].detach().unbind(1)
    where, targets, values = batch["meta"]["where"], batch["targets"][:, 0], (x**2 + t**3)
    by_hand = {
        "residual": ((3 * t**2 - 0.1 * 2) ** 2).mean().item(),
        "initial": ((values - targets)[where == Where.INITIAL] ** 2).mean().item(),
        "boundary": ((values - targets)[where == Where.BOUNDARY] ** 2).mean().item(),
    }

    assert parts == pytest.approx(by_hand)
    assert result.total.item() == pytest.approx(
        2 * by_hand["residual"] + 3 * by_hand["initial"] + 5 * by_hand["boundary"]
    )


def test_velocity_is_part_of_the_initial_condition():
    """A wave with the right initial values but a wrong velocity has an initial error."""
    batch = batch_of(find_problem("wave"))
    still = find_problem("wave").solution()
    _, parts = parts_of(PDELoss("wave"), lambda p: still(p) + 0.5 * p[:, 1:], batch)

    assert parts["initial"] == pytest.approx(0.25)


def test_the_periodic_part_includes_derivatives():
    """It is the difference of the function and its derivatives between both ends, zero for a periodic function."""
    batch = batch_of(find_problem("kdv"))
    loss = PDELoss("kdv")
    _, parts = parts_of(loss, lambda p: p[:, :1] ** 3, batch)
    _, periodic = parts_of(loss, lambda p: torch.cos(math.pi * p[:, :1]) * p[:, 1:], batch)

    # x³: 1 - (-1), and 3x² is the same at both ends, and 6 - (-6)
    assert parts["periodic"] == pytest.approx(2**2 + 12**2)
    assert periodic["periodic"] < 1e-20
    assert "boundary" not in parts


def test_partners_have_no_residual():
    """The residual is a mean over the drawn points only."""
    problem = find_problem("kdv")
    batch = batch_of(problem)
    _, parts = parts_of(PDELoss("kdv"), lambda p: p[:, 1:] * p[:, :1], batch)
    points = batch["inputs"].detach()[batch["meta"]["where"] != Where.PARTNER]
    # u = x t: u_t + u u_x = x + x t²
    expected = ((points[:, 0] * (1 + points[:, 1] ** 2)) ** 2).mean()

    assert parts["residual"] == pytest.approx(expected.item())


def test_without_gradients_the_loss_is_the_error():
    """It is the mean square of the error; points with a known solution count in training if ``data_weight`` is set."""
    problem = find_problem("heat")
    values, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    plain = PDELoss("heat")(ModelOutput(values), {"inputs": torch.zeros(2, 2), "targets": targets})
    batch = batch_of(problem)
    batch["meta"]["where"][:4] = Where.SOLUTION
    _, parts = parts_of(PDELoss("heat", data_weight=1.0), lambda p: 2 + 0 * p[:, :1], batch)
    with torch.no_grad():
        evaluated = PDELoss("heat")(ModelOutput(2 + 0 * batch["inputs"][:, :1]), batch)

    assert plain.total == 2.5
    assert parts["data"] == pytest.approx(4.0)
    assert evaluated.total.item() == pytest.approx(4.0)
    assert not evaluated.parts


@pytest.mark.parametrize(
    "change, message",
    [
        ({"targets": torch.zeros(60, 2)}, "one number for each unknown"),
        ({"inputs": torch.zeros(60, 2)}, "signals.pinn"),
    ],
)
def test_unusable_batches_raise(change, message):
    """Outputs of another shape, and inputs that do not require gradients; the error says what to do."""
    batch = {**batch_of(find_problem("heat")), **change}

    with pytest.raises(ValueError, match=message):
        PDELoss("heat")(ModelOutput(torch.zeros(60, 1, requires_grad=True)), batch)


def test_gradients_match_finite_differences():
    """With respect to the weights, through third derivatives."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    batch = batch_of(find_problem("kdv"), interior=6, initial=2, boundary=2)
    loss = PDELoss("kdv")

    def total(weight):
        return loss(ModelOutput(nn.functional.linear(net[:2](batch["inputs"]), weight, net[2].bias)), batch).total

    assert torch.autograd.gradcheck(total, net[2].weight)


def test_residuals_are_detached():
    """Adaptive sampling gets residuals without a graph, even if gradients are off."""
    with torch.no_grad():
        found = residual_at(lambda p: p[:, 1:] * p[:, :1], find_problem("heat"), torch.ones(3, 2))

    assert found.tolist() == [[1.0]] * 3
    assert not found.requires_grad


def test_a_causal_loss_of_a_solution_is_zero():
    """Causal weights do not change a residual of zero, nor its double precision."""
    problem = find_problem("heat")
    loss = PDELoss("heat", causality=Causality())
    result, _ = parts_of(loss, problem.solution(), batch_of(problem))

    assert result.total < 1e-12
    assert result.total.dtype == torch.float64
