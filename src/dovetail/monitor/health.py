"""The health of gradients: vanishing, exploding, NaN."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal

import numpy as np
from attrs import frozen
from torch import nn

from dovetail.monitor.readings import DeviceStatistics, HostStatistics, Parameters, Transfer
from dovetail.ops import grad_norms

State = Literal["healthy", "warning", "vanishing", "exploding", "nan"]


@frozen
class GradientHealth:
    """The health of the gradients of one update.

    A norm is the 2-norm of one parameter's gradient. It is NaN or infinite if the gradient has such an element.
    """

    max_norm: float
    min_norm: float
    mean_norm: float
    #: A norm is above the limit, or infinite.
    has_exploding_gradients: bool
    #: A norm is below the limit, for instance because all elements are zero.
    has_vanishing_gradients: bool
    #: Number of parameters whose gradient is zero in every element.
    num_zero_gradients: int
    #: Time of the check, ISO 8601, UTC.
    timestamp: str
    #: A gradient has an element that is NaN or infinite.
    has_nan_gradients: bool = False
    #: The norm of all gradients together.
    total_norm: float = 0.0
    state: State = "healthy"
    #: The parameter to blame: the first with a NaN or infinite gradient, the one with the smallest norm if gradients
    #: vanish, or the one with the largest norm.
    worst: str = ""


def check_gradient_health(model: nn.Module, threshold_max: float = 1.0, threshold_min: float = 1e-7) -> GradientHealth:
    """Return the health of the current gradients of ``model``. Waits for the device.

    Args:
        model: a model after a backward pass.
        threshold_max: a gradient with a norm above this explodes.
        threshold_min: a gradient with a norm below this vanishes.

    Raises:
        ValueError: no parameter has a gradient, or ``threshold_min`` is not below ``threshold_max``.
    """
    if not threshold_min < threshold_max:
        raise ValueError(f"threshold_min must be below threshold_max, got {threshold_min} and {threshold_max}")
    return assess(measure(model), vanishing=threshold_min, warning=threshold_max, exploding=threshold_max)


def measure(model: nn.Module) -> HostStatistics:
    """Return the statistics of the current gradients of ``model``, as one update. Waits for the device.

    Raises:
        ValueError: no parameter has a gradient.
    """
    named = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    if not named:
        raise ValueError("no parameter of the model has a gradient: check after loss.backward(), before zero_grad()")
    sizes = np.array([grad.numel() for _, grad in named], np.int64)
    parameters = Parameters(tuple(name for name, _ in named), sizes)
    return Transfer([DeviceStatistics(grad_norms([grad for _, grad in named]), parameters, 0)]).wait()[0]


def assess(statistics: HostStatistics, *, vanishing: float, warning: float, exploding: float) -> GradientHealth:
    """Return the health of the gradients of a single update, given the limits of the norms."""
    norms, zeros = statistics.norms[0], statistics.zeros[0]
    broken, explodes, vanishes = ~np.isfinite(norms), bool((norms > exploding).any()), bool((norms < vanishing).any())
    state: State = "healthy"
    place = int(np.nanargmax(norms)) if not broken.all() else 0
    if broken.any():
        state, place = "nan", int(broken.argmax())
    elif explodes:
        state = "exploding"
    elif vanishes:
        state, place = "vanishing", int(norms.argmin())
    elif norms[place] > warning:
        state = "warning"
    return GradientHealth(
        max_norm=float(norms.max()),
        min_norm=float(norms.min()),
        mean_norm=float(norms.mean()),
        has_exploding_gradients=explodes,
        has_vanishing_gradients=vanishes,
        num_zero_gradients=int((zeros == statistics.parameters.sizes).sum()),
        timestamp=dt.datetime.now(dt.UTC).isoformat(),
        has_nan_gradients=bool(broken.any()),
        total_norm=float(statistics.total[0]),
        state=state,
        worst=statistics.parameters.names[place],
    )


def describe_excess(health: GradientHealth, limits: Mapping[str, float]) -> str:
    """Return a sentence that says what is wrong, and which of ``limits`` is exceeded."""
    if health.state == "nan":
        return f"the gradient of {health.worst} is NaN or infinite"
    if health.state == "vanishing":
        vanishing = f"{health.min_norm:.3g}, below {limits['vanishing']:g}"
        return f"the gradient of {health.worst} vanishes: its norm is {vanishing}"
    limit = limits["exploding" if health.state == "exploding" else "warning"]
    word = "explodes" if health.state == "exploding" else "is large"
    return f"the gradient of {health.worst} {word}: its norm is {health.max_norm:.3g}, above {limit:g}"
