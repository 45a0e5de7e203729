"""A line search for the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from attrs import frozen
from torch import Tensor

_DECREASE: Final = 1e-4  # c₁: required decrease, relative to the prediction of the slope
_CURVATURE: Final = 0.9  # c₂: largest slope after the step, relative to the slope before
_MAX_GROWTH: Final = 10.0  # largest factor between two steps
_MARGIN: Final = 0.1  # smallest distance of a trial from the ends of its interval, relative to the interval


@frozen(eq=False)
class Trial:
    """The loss at a distance along the direction."""

    distance: float
    loss: float
    #: Gradient of the loss, ``[parameters]``.
    gradient: Tensor
    #: Derivative of the loss along the direction.
    slope: float

    @property
    def finite(self) -> bool:
        """Whether loss and slope are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.slope)


def strong_wolfe(evaluate: Callable[[float], Trial], start: Trial, distance: float, max_evaluations: int) -> Trial:
    """Return a trial that satisfies the strong Wolfe conditions, or the best one after ``max_evaluations`` evaluations.

    Source: Nocedal and Wright, «Numerical optimization», 2nd edition, 2006, algorithms 3.5 and 3.6, with cubic
    interpolation.

    Args:
        evaluate: computes the trial at a distance.
        start: the trial at distance 0, with a slope below 0.
        distance: first distance to try.
        max_evaluations: most evaluations.

    Returns:
        ``start`` itself if no trial was better.
    """
    low = start
    for left in range(max_evaluations, 0, -1):
        trial = evaluate(distance)
        if not trial.finite or _insufficient_decrease(start, trial) or (low is not start and trial.loss >= low.loss):
            return _zoom(evaluate, start, low, trial, left - 1)
        if abs(trial.slope) <= -_CURVATURE * start.slope:
            return trial
        if trial.slope >= 0:
            return _zoom(evaluate, start, trial, low, left - 1)
        farthest = _MAX_GROWTH * distance
        proposed = _cubic_minimum(low, trial)
        distance = farthest if proposed is None or proposed <= distance else min(max(proposed, 2 * distance), farthest)
        low = trial
    return low


def _insufficient_decrease(start: Trial, trial: Trial) -> bool:
    return trial.loss > start.loss + _DECREASE * trial.distance * start.slope


def _zoom(evaluate: Callable[[float], Trial], start: Trial, low: Trial, high: Trial, max_evaluations: int) -> Trial:
    """Bisect or interpolate an interval that contains such a trial; ``low`` is the end with the smaller loss."""
    for _ in range(max_evaluations):
        near, far = sorted((low.distance, high.distance))
        margin = _MARGIN * (far - near)
        proposed = _cubic_minimum(low, high) if high.finite else None
        distance = (near + far) / 2 if proposed is None else min(max(proposed, near + margin), far - margin)
        trial = evaluate(distance)
        if not trial.finite or _insufficient_decrease(start, trial) or trial.loss >= low.loss:
            high = trial
        elif abs(trial.slope) <= -_CURVATURE * start.slope:
            return trial
        else:
            if trial.slope * (high.distance - low.distance) >= 0:
                high = low
            low = trial
    return low


def _cubic_minimum(first: Trial, second: Trial) -> float | None:
    """Return the minimum of the cubic through both losses and slopes, or None if it has none."""
    width = second.distance - first.distance
    if not width:
        return None
    mean = first.slope + second.slope - 3 * (first.loss - second.loss) / (first.distance - second.distance)
    inside = mean**2 - first.slope * second.slope
    if inside < 0:
        return None
    root = math.copysign(math.sqrt(inside), width)
    divisor = second.slope - first.slope + 2 * root
    if not divisor:
        return None
    return second.distance - width * (second.slope + root - mean) / divisor
