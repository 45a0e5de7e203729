"""The network of PINNs."""

from __future__ import annotations

import math

import pytest
import torch

from dovetail_signals.pinn.field import Field
from dovetail_signals.pinn.model import PINN
from dovetail_signals.pinn.problems import PROBLEMS


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


def test_inputs_are_scaled_to_the_problem():
    """The middle of the domain maps to the origin, its ends to -1 and 1."""
    model = network(problem="schrodinger")
    lower, upper = PROBLEMS["schrodinger"].lower, PROBLEMS["schrodinger"].upper

    assert model.inputs(torch.stack([lower, (lower + upper) / 2, upper])).tolist() == [[-1, -1], [0, 0], [1, 1]]


def test_fourier_features_are_sines_and_cosines():
    """Their squares add up to one; their frequencies are in the state but are not trained."""
    model = network(problem="heat", fourier_features=5, fourier_scale=3.0)
    seen = model.inputs(places(PROBLEMS["heat"]))

    assert seen.shape == (20, 10)
    assert torch.allclose(seen[:, :5] ** 2 + seen[:, 5:] ** 2, torch.ones(20, 5, dtype=torch.float64))
    assert "inputs.frequencies" in model.state_dict()
    assert "inputs.frequencies" not in dict(model.named_parameters())


@pytest.mark.parametrize("adaptive, count", [("none", 0), ("layer", 2), ("neuron", 18)])
def test_slopes_start_at_one(adaptive, count):
    """With any factor, the network starts as one without trained slopes; there is one for each layer or neuron."""
    options = {"input_shape": (2,), "problem": "heat", "hidden_dims": [9, 9]}
    torch.manual_seed(1)
    plain = PINN(**options)
    torch.manual_seed(1)
    model = PINN(**options, adaptive=adaptive, slope=10.0)
    at = places(PROBLEMS["heat"])

    assert sum(slope.numel() for slope in model.slopes) == count
    assert torch.allclose(model(at), plain(at), atol=1e-6)
    model(at).sum().backward()
    assert all(slope.grad is not None and slope.grad.abs().sum() > 0 for slope in model.slopes)


@pytest.mark.parametrize("activation", ["tanh", "sin", "silu", "gelu"])
def test_every_activation_has_three_derivatives(activation):
    """Third derivatives exist and are not all zero, as the KdV equation needs."""
    at = places(PROBLEMS["kdv"]).requires_grad_()

    assert Field(network(problem="kdv", activation=activation)(at), at, "xt")("xxx").abs().max() > 1e-6


@pytest.mark.parametrize(
    "options, message",
    [
        ({"input_shape": (3,), "problem": "heat"}, "has 2 coordinates, the data have 3"),
        ({"input_shape": (2,), "hard": ["initial"]}, "set problem"),
        ({"input_shape": (2,), "problem": "heart"}, "unknown 'heart'; use one of burgers"),
    ],
)
def test_invalid_options_raise(options, message):
    """A problem with other coordinates, conditions without a problem, an unknown problem."""
    with pytest.raises(ValueError, match=message):
        PINN(**options)


def test_the_network_of_the_paper():
    """Eight layers of twenty have 3,021 weights with Glorot's initialisation."""
    torch.manual_seed(0)
    model = PINN((2,), problem="burgers")

    assert sum(parameter.numel() for parameter in model.parameters()) == 3021
    assert model.layers[1].weight.std().item() == pytest.approx(math.sqrt(2 / 40), rel=0.1)
