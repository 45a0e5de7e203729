"""How far to go along a direction: a line search for the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from attrs import frozen
from torch import Tensor

_DECREASE: Final = 1e-4  # c₁: share of the decrease that the slope promises which a step must bring
_CURVATURE: Final = 0.9  # c₂: share of the slope that may be left after it
_FARTHER: Final = 10.0  # by which factor a step grows at most
_INSIDE: Final = 0.1  # share of an interval that a trial keeps from its ends


@frozen(eq=False)
class Trial:
    """The loss at some distance along the direction."""

    distance: float
    loss: float
    #: Of the loss by the parameters, ``[parameters]``.
    gradient: Tensor
    #: Of the loss along the direction.
    slope: float

    @property
    def finite(self) -> bool:
        """Whether both numbers are."""
        return math.isfinite(self.loss) and math.isfinite(self.slope)


def strong_wolfe(evaluate: Callable[[float], Trial], start: Trial, distance: float, most: int) -> Trial:
    """Return a trial with enough decrease and little slope, or the best one after ``most`` evaluations.

    Source: Nocedal and Wright, «Numerical optimization», 2nd edition, 2006, algorithms 3.5 and 3.6, with cubic
    interpolation.

    Args:
        evaluate: the loss at a distance.
        start: at distance 0, with a slope below 0.
        distance: to try first.
        most: evaluations.

    Returns:
        ``start`` where nothing was better.
    """
    low = start
    for left in range(most, 0, -1):
        trial = evaluate(distance)
        if not trial.finite or _insufficient_decrease(start, trial) or (low is not start and trial.loss >= low.loss):
            return _zoom(evaluate, start, low, trial, left - 1)
        if abs(trial.slope) <= -_CURVATURE * start.slope:
            return trial
        if trial.slope >= 0:
            return _zoom(evaluate, start, trial, low, left - 1)
        farthest = _FARTHER * distance
        wished = _cubic_minimum(low, trial)
        distance = farthest if wished is None or wished <= distance else min(max(wished, 2 * distance), farthest)
        low = trial
    return low


def _insufficient_decrease(start: Trial, trial: Trial) -> bool:
    return trial.loss > start.loss + _DECREASE * trial.distance * start.slope


def _zoom(evaluate: Callable[[float], Trial], start: Trial, low: Trial, high: Trial, most: int) -> Trial:
    """Narrow an interval with a good point in it down; ``low`` is the end with the smaller loss."""
    for _ in range(most):
        near, far = sorted((low.distance, high.distance))
        margin = _INSIDE * (far - near)
        wished = _cubic_minimum(low, high) if high.finite else None
        distance = (near + far) / 2 if wished is None else min(max(wished, near + margin), far - margin)
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
    """Return where the cubic through both losses and slopes is smallest; None where it has no minimum."""
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
