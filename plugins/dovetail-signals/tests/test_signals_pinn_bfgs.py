"""BFGS with the full inverse Hessian."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pinn.bfgs import BFGS


def rosenbrock(x):
    """Return Rosenbrock's function, whose minimum is at ones."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def closure_of(function, optimizer, parameters):
    """Return the closure that a training loop passes to an optimizer."""

    def closure():
        optimizer.zero_grad()
        loss = function(*parameters)
        loss.backward()
        return loss.detach()

    return closure


@pytest.mark.parametrize("scaled", [True, False])
def test_it_finds_the_minimum_of_rosenbrock(scaled):
    """It finds the minimum of Rosenbrock's function in ten dimensions to ten digits."""
    x = torch.nn.Parameter(torch.linspace(-1.5, 1, 10, dtype=torch.float64))
    optimizer = BFGS([x], max_iter=200, scaled=scaled, tolerance_grad=1e-12)
    for _ in range(3):
        optimizer.step(closure_of(rosenbrock, optimizer, [x]))

    assert torch.allclose(x, torch.ones_like(x), atol=1e-10)


@given(st.integers(0, 1000))
def test_a_quadratic_of_n_dimensions_takes_about_n_iterations(seed):
    """Badly scaled quadratics in n dimensions are solved in a few times n iterations, the reason for a full matrix."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    curvature = basis @ torch.diag(torch.logspace(0, 5, 8, dtype=torch.float64)) @ basis.T
    x = torch.nn.Parameter(torch.randn(8, generator=generator, dtype=torch.float64))
    optimizer = BFGS([x], max_iter=80)
    start = float((x @ curvature @ x).detach())
    optimizer.step(closure_of(lambda v: v @ curvature @ v, optimizer, [x]))

    assert float((x @ curvature @ x).detach()) < 1e-10 * start


def test_an_update_never_increases_the_loss():
    """An update ends at the best point of its line searches."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 10), torch.nn.Tanh(), torch.nn.Linear(10, 1)).double()
    x = torch.linspace(-2, 2, 50, dtype=torch.float64)[:, None]
    optimizer = BFGS(net.parameters(), max_iter=5)
    losses = [
        float(optimizer.step(closure_of(lambda *_: (net(x) - torch.sin(3 * x)).square().mean(), optimizer, ())))
        for _ in range(60)
    ]

    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-5


def test_the_state_includes_the_matrix():
    """An optimizer that loads the state continues with bit-identical steps."""
    x = torch.nn.Parameter(torch.linspace(-1.5, 1, 6, dtype=torch.float64))
    first = BFGS([x], max_iter=4)
    first.step(closure_of(rosenbrock, first, [x]))
    y = torch.nn.Parameter(x.detach().clone())
    second = BFGS([y], max_iter=4)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(3):
        first.step(closure_of(rosenbrock, first, [x]))
        second.step(closure_of(rosenbrock, second, [y]))

    assert torch.equal(x, y)


def test_steps_into_non_finite_losses_are_shortened():
    """It shortens steps to where the loss is finite, and stays at the minimum once there."""
    x = torch.nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    optimizer = BFGS([x], max_iter=50, lr=100.0)
    function = lambda v: (v - torch.log(v)).sum()  # noqa: E731 (a wall at 0)
    for _ in range(2):
        optimizer.step(closure_of(function, optimizer, [x]))
    assert x.item() == pytest.approx(1.0, abs=1e-7)

    optimizer.step(closure_of(function, optimizer, [x]))
    assert x.item() == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize(
    "params, message",
    [
        (
            [{"params": [torch.nn.Parameter(torch.ones(1))]}, {"params": [torch.nn.Parameter(torch.ones(2))]}],
            "one group",
        ),
        ([torch.nn.Parameter(torch.ones(20_001))], "at most 20,000 parameters, got 20,001: use lbfgs"),
    ],
)
def test_invalid_parameters_raise(params, message):
    """Several groups, and more parameters than the matrix may have rows."""
    with pytest.raises(ValueError, match=message):
        BFGS(params)
