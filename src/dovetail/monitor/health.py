"""The health of gradients: vanishing, exploding, or no numbers at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal

import numpy as np
from attrs import frozen
from torch import nn

from dovetail.monitor.readings import Entry, Measured, Reading, Rows
from dovetail.ops import grad_norms

State = Literal["healthy", "warning", "vanishing", "exploding", "nan"]


@frozen
class GradientHealth:
    """How the gradients of one update are, parameter by parameter.

    A norm is the 2-norm of one parameter's gradient; it is NaN or infinite where the gradient has such an element.
    """

    max_norm: float
    min_norm: float
    mean_norm: float
    #: A norm is above what is allowed, or infinite.
    has_exploding_gradients: bool
    #: A norm is below what is expected, or there is nothing but zeros.
    has_vanishing_gradients: bool
    #: Parameters whose gradient is zero in every element.
    num_zero_gradients: int
    #: ISO 8601, UTC.
    timestamp: str
    #: A gradient has an element that is NaN or infinite.
    has_nan_gradients: bool = False
    #: Of all gradients together.
    total_norm: float = 0.0
    state: State = "healthy"
    #: The parameter with the largest norm, or the first whose gradient is no number.
    worst: str = ""


def check_gradient_health(model: nn.Module, threshold_max: float = 1.0, threshold_min: float = 1e-7) -> GradientHealth:
    """Return how the gradients of ``model`` are now. Waits for the device.

    Args:
        model: a model after a backward pass.
        threshold_max: a norm above it is exploding.
        threshold_min: a norm below it is vanishing.

    Raises:
        ValueError: no parameter has a gradient, or the thresholds cross.
    """
    if not threshold_min < threshold_max:
        raise ValueError(f"threshold_min must be below threshold_max, got {threshold_min} and {threshold_max}")
    return health_of(measured(model), vanishing=threshold_min, warning=threshold_max, exploding=threshold_max)


def measured(model: nn.Module) -> Measured:
    """Return the gradients of ``model`` in numbers, as one update. Waits for the device.

    Raises:
        ValueError: no parameter has a gradient.
    """
    named = [(name, one.grad) for name, one in model.named_parameters() if one.grad is not None]
    if not named:
        raise ValueError("no parameter of the model has a gradient: check after loss.backward(), before zero_grad()")
    rows = Rows(tuple(name for name, _ in named), np.array([grad.numel() for _, grad in named], np.int64))
    return Reading([Entry(grad_norms([grad for _, grad in named]), rows, 0)]).numbers()[0]


def health_of(measured: Measured, *, vanishing: float, warning: float, exploding: float) -> GradientHealth:
    """Return how the gradients of the one update in ``measured`` are."""
    norms, zeros = measured.norms[0], measured.zeros[0]
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
        num_zero_gradients=int((zeros == measured.rows.sizes).sum()),
        timestamp=dt.datetime.now(dt.UTC).isoformat(),
        has_nan_gradients=bool(broken.any()),
        total_norm=float(measured.totals[0]),
        state=state,
        worst=measured.rows.names[place],
    )


def said(health: GradientHealth, limits: Mapping[str, float]) -> str:
    """Return in words what is wrong, with the limit of ``limits`` that is crossed."""
    if health.state == "nan":
        return f"the gradient of {health.worst} is NaN or infinite"
    if health.state == "vanishing":
        vanishing = f"{health.min_norm:.3g}, below {limits['vanishing']:g}"
        return f"the gradient of {health.worst} vanishes: its norm is {vanishing}"
    limit = limits["exploding" if health.state == "exploding" else "warning"]
    word = "explodes" if health.state == "exploding" else "is large"
    return f"the gradient of {health.worst} {word}: its norm is {health.max_norm:.3g}, above {limit:g}"
