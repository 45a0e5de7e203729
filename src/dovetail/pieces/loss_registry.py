"""Losses by name, from Python: those that are installed, and those that are registered while the program runs."""

from __future__ import annotations

from typing import cast

from dovetail.losses.strategy import LossAsStrategy, LossStrategy, StrategyAsLoss, StrategyLoss
from dovetail.pieces.registry import ObjectRegistry
from dovetail.spec import Loss
from dovetail.spec.plugins import Plugins


class LossStrategyRegistry:
    """Finds a loss among its own, and then among the installed ones.

    Args:
        plugins: the installed ones; by default whatever is installed.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._objects = ObjectRegistry("loss", plugins)

    def register(self, name: str, strategy: LossStrategy) -> None:
        """Keep an object under a name, in this registry.

        Args:
            name: what :meth:`get` finds it by, before any installed loss of that name.
            strategy: an object with ``compute_loss`` and ``validate_inputs``.

        Raises:
            ValueError: the name is taken in this registry.
            TypeError: it lacks a method, or is a class.
        """
        if not all(callable(getattr(strategy, one, None)) for one in ("compute_loss", "validate_inputs")):
            what = type(strategy).__name__
            msg = f"'{name}': register an object with compute_loss and validate_inputs, not {what}"
            raise TypeError(msg)
        self._objects.register(name, strategy)

    def get(self, name: str) -> LossStrategy:
        """Return the loss of that name; an installed one is built with its defaults.

        Raises:
            PluginError: nothing has that name; the nearest is suggested.
            ValueError: it cannot be built without options.
        """
        found = self._objects.get(name)
        if name in self._objects.own or isinstance(found, StrategyLoss):
            return cast("LossStrategy", found)
        return LossAsStrategy(found)

    def as_loss(self, name: str) -> Loss:
        """Return the loss of that name for a run: ``Config.with_parts(loss=registry.as_loss("custom"))``.

        Raises:
            PluginError, ValueError: as :meth:`get`.
        """
        found = self.get(name)
        return found if isinstance(found, StrategyLoss) else StrategyAsLoss(found)


def get_loss_strategy(name: str) -> LossStrategy:
    """Return the installed loss of that name, built with its defaults; errors as for ``LossStrategyRegistry.get``."""
    return LossStrategyRegistry().get(name)
