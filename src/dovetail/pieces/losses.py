"""Losses by name, from Python: criteria, and loss strategies."""

from __future__ import annotations

from typing import Any, Final, cast

from torch import nn

from dovetail.losses.classification import LabelSmoothingCrossEntropy, cross_entropy
from dovetail.losses.focal import FocalLoss
from dovetail.losses.strategy import LossAsStrategy, LossStrategy, StrategyAsLoss, StrategyLoss
from dovetail.losses.supcon import SupConLoss
from dovetail.pieces.by_name import Factories, ObjectRegistry
from dovetail.spec import Loss
from dovetail.spec.plugins import Plugins

_CRITERIA: Final = Factories[nn.Module](
    "loss",
    "name",
    {
        "ce": cross_entropy,
        "label_smoothing": LabelSmoothingCrossEntropy,
        "focal": FocalLoss,
        "supcon": SupConLoss,
    },
)


def create_criterion(name: str, **kwargs: Any) -> nn.Module:
    """Return the loss of that name, a module that is called with ``(input, target)``.

    Args:
        name: ``"ce"``, ``"label_smoothing"``, ``"focal"`` or ``"supcon"``.
        kwargs: the options of that loss.

    Raises:
        ValueError: there is no loss of that name (the message suggests the nearest), it has no such option, or an
            option has an invalid value.
        TypeError: ``name`` is not a string.
    """
    return _CRITERIA.build(name, **kwargs)


class LossStrategyRegistry:
    """Finds a loss strategy by name: first among its registered objects, then among the installed losses.

    Args:
        plugins: the plugins whose losses to find; None discovers the installed ones at the first use.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._objects = ObjectRegistry("loss", plugins)

    def register(self, name: str, strategy: LossStrategy) -> None:
        """Register a strategy in this registry.

        Args:
            name: the name for :meth:`get`; it takes precedence over an installed loss of the same name.
            strategy: an object with ``compute_loss`` and ``validate_inputs``.

        Raises:
            ValueError: the name is taken in this registry.
            TypeError: ``strategy`` lacks a method, or is a class.
        """
        if not all(callable(getattr(strategy, method, None)) for method in ("compute_loss", "validate_inputs")):
            given = type(strategy).__name__
            raise TypeError(f"'{name}': register an object with compute_loss and validate_inputs, not {given}")
        self._objects.register(name, strategy)

    def get(self, name: str) -> LossStrategy:
        """Return the loss of that name; an installed one is built with its defaults.

        Raises:
            PluginError: there is no loss of that name; the message suggests the nearest.
            ValueError: the installed loss needs options.
        """
        found = self._objects.get(name)
        if name in self._objects.registered or isinstance(found, StrategyLoss):
            return cast("LossStrategy", found)
        return LossAsStrategy(found)

    def as_loss(self, name: str) -> Loss:
        """Return the loss of that name for a run: ``Config.with_parts(loss=registry.as_loss("custom"))``.

        Raises:
            PluginError, ValueError: as for :meth:`get`.
        """
        found = self.get(name)
        return found if isinstance(found, StrategyLoss) else StrategyAsLoss(found)


def get_loss_strategy(name: str) -> LossStrategy:
    """Return the installed loss of that name, built with its defaults; errors as for ``LossStrategyRegistry.get``."""
    return LossStrategyRegistry().get(name)
