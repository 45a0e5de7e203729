"""The health of gradients: the state, and the parameter to blame."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from dovetail.monitor.gradients import GradientMonitor
from dovetail.monitor.health import check_gradient_health
from dovetail.ops import _loader


@pytest.fixture(params=["reference", "native"])
def native(request, monkeypatch):
    """Run with the reference implementation, as with DOVETAIL_NATIVE=0, and with the native op."""
    if request.param == "reference":
        monkeypatch.setattr(_loader, "_live", lambda _: False)


def model_with(*gradients: list[float]) -> nn.Module:
    """Return a model whose parameters ``p0``, ``p1`` … have these gradients."""
    model = nn.Module()
    for place, values in enumerate(gradients):
        parameter = nn.Parameter(torch.zeros(len(values)))
        parameter.grad = torch.tensor(values)
        setattr(model, f"p{place}", parameter)
    return model


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "gradients, state, worst",
    [
        ([[0.3, 0.4], [0.1]], "healthy", "p0"),
        ([[0.1], [3.0, 4.0]], "warning", "p1"),
        ([[0.1], [1e-9]], "vanishing", "p1"),
        ([[0.1], [0.0, 0.0]], "vanishing", "p1"),
        ([[30.0, 40.0], [0.0]], "exploding", "p0"),
        ([[50.0], [math.nan, 1.0]], "nan", "p1"),
        ([[0.1], [math.inf, 1.0]], "nan", "p1"),
    ],
)
def test_the_state_follows_from_the_norms(gradients, state, worst):
    """The health names the parameter to blame."""
    health = GradientMonitor().check_step(model_with(*gradients))
    norms = [float(np.linalg.norm(values)) for values in gradients]

    assert (health.state, health.worst) == (state, worst)
    assert health.has_nan_gradients == (state == "nan")
    assert health.has_exploding_gradients == any(norm > 10 for norm in norms)
    assert health.has_vanishing_gradients == any(norm < 1e-7 for norm in norms)
    assert health.num_zero_gradients == sum(not any(values) for values in gradients)
    assert health.timestamp.endswith("+00:00")
    measured = (health.max_norm, health.min_norm, health.mean_norm, health.total_norm)
    expected = (np.max(norms), np.min(norms), np.mean(norms), np.linalg.norm(norms))
    assert measured == pytest.approx(tuple(map(float, expected)), rel=1e-6, nan_ok=True)


def test_the_function_has_a_lower_limit_than_the_monitor():
    """A norm of 5 explodes by its default of 1, and not by the monitor's of 10."""
    model = model_with([3.0, 4.0])

    assert check_gradient_health(model).has_exploding_gradients
    assert not check_gradient_health(model, threshold_max=6.0).has_exploding_gradients
    assert check_gradient_health(model, threshold_max=6.0, threshold_min=5.5).has_vanishing_gradients
    assert not GradientMonitor().check_step(model).has_exploding_gradients
