"""Losses by name, from Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from torch import nn

from dovetail.config.diagnostics import unknown
from dovetail.losses.classification import LabelSmoothingCrossEntropy, cross_entropy
from dovetail.losses.focal import FocalLoss
from dovetail.losses.supcon import SupConLoss

_FACTORIES: Final[dict[str, Callable[..., nn.Module]]] = {
    "ce": cross_entropy,
    "label_smoothing": LabelSmoothingCrossEntropy,
    "focal": FocalLoss,
    "supcon": SupConLoss,
}


def create_criterion(name: str, **kwargs: Any) -> nn.Module:
    """Return the loss of that name, a module that takes ``(input, target)``.

    Args:
        name: ``"ce"``, ``"label_smoothing"``, ``"focal"`` or ``"supcon"``.
        kwargs: options of that loss.

    Raises:
        ValueError: there is no loss of that name (the nearest is suggested), it has no such option, or it refuses one.
    """
    if name not in _FACTORIES:
        raise unknown("name", "loss", name, _FACTORIES)
    factory = _FACTORIES[name]
    options = inspect.signature(factory).parameters
    odd = next((one for one in kwargs if one not in options), None)
    if odd is not None:
        msg = f"{name} has no option '{odd}'; it has {', '.join(options)}"
        raise ValueError(msg)
    return factory(**kwargs)
