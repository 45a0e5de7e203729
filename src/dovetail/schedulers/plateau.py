"""Reduce the rate when a metric stops improving."""

from __future__ import annotations

from typing import Annotated, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dovetail.spec.limits import AtLeast


def plateau(
    optimizer: Optimizer,
    *,
    mode: Literal["min", "max"] = "min",
    factor: Annotated[float, AtLeast(0)] = 0.1,
    patience: Annotated[int, AtLeast(0)] = 10,
    threshold: Annotated[float, AtLeast(0)] = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: Annotated[int, AtLeast(0)] = 0,
    min_lr: Annotated[float, AtLeast(0)] = 0.0,
) -> ReduceLROnPlateau:
    """Return torch's ``ReduceLROnPlateau``; the run steps it with the metric named by ``monitor``.

    Args:
        optimizer: the run provides it.
        mode: whether the metric is to go down (``"min"``) or up (``"max"``).
        factor: what the rate is multiplied by, 0 to below 1.
        patience: steps without improvement before that.
        threshold: how much better counts as an improvement, as ``threshold_mode`` reads it.
        threshold_mode: a share of the best value so far (``"rel"``), or a difference from it (``"abs"``).
        cooldown: steps after a reduction that do not count.
        min_lr: the lowest rate.

    Raises:
        ValueError: ``factor`` is not below 1.
    """
    if not 0 <= factor < 1:
        msg = f"factor: must be at least 0 and below 1, got {factor:g}"
        raise ValueError(msg)
    return ReduceLROnPlateau(
        optimizer,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_lr=min_lr,
    )
