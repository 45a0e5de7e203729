"""Optimizers by name, from Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from torch.optim import SGD, AdamW, Optimizer, RMSprop

from dovetail.config.diagnostics import unknown
from dovetail.optimizers import presets
from dovetail.optimizers.factories import adam, adamw, rmsprop, sgd
from dovetail.optimizers.fused import Params

_FACTORIES: Final[dict[str, Callable[..., Optimizer]]] = {
    "adamw": adamw,
    "adam": adam,
    "sgd": sgd,
    "rmsprop": rmsprop,
}


def create_optimizer(
    optimizer_type: str = "adamw",
    model_params: Params | None = None,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    **kwargs: Any,
) -> Optimizer:
    """Return the optimizer of that name.

    Args:
        optimizer_type: ``"adamw"``, ``"adam"``, ``"sgd"`` or ``"rmsprop"``.
        model_params: the parameters, or groups of them.
        lr: learning rate.
        weight_decay: weight decay.
        kwargs: further options of that optimizer.

    Raises:
        ValueError: there is no optimizer of that name (the nearest is suggested), it has no such option, or
            there are no parameters.
        TypeError: ``optimizer_type`` is no name.
    """
    given: Any = optimizer_type
    if not isinstance(given, str):
        msg = f"optimizer_type: expected a name such as 'adamw', got {type(given).__name__}"
        raise TypeError(f"{msg}; what to optimise is model_params")
    if optimizer_type not in _FACTORIES:
        raise unknown("optimizer_type", "optimizer", optimizer_type, _FACTORIES)
    if model_params is None:
        msg = "model_params: there is nothing to optimise; pass model.parameters()"
        raise ValueError(msg)
    factory = _FACTORIES[optimizer_type]
    options = inspect.signature(factory).parameters
    odd = next((name for name in kwargs if name not in options), None)
    if odd is not None:
        msg = f"{optimizer_type} has no option '{odd}'; it has {', '.join(list(options)[1:])}"
        raise ValueError(msg)
    return factory(model_params, lr=lr, weight_decay=weight_decay, **kwargs)


def create_adamw_optimizer(
    model_params: Params,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW; errors as for ``adamw``."""
    return adamw(model_params, lr=lr, weight_decay=weight_decay, betas=betas)


def create_sgd_optimizer(
    model_params: Params,
    lr: float = 1e-2,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool = True,  # noqa: FBT001, FBT002 (the documented signature)
) -> SGD:
    """Return SGD with Nesterov's momentum; errors as for ``sgd``."""
    return sgd(model_params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def create_rmsprop_optimizer(
    model_params: Params, lr: float = 1e-3, weight_decay: float = 1e-5, alpha: float = 0.99
) -> RMSprop:
    """Return RMSprop; errors as for ``rmsprop``."""
    return rmsprop(model_params, lr=lr, weight_decay=weight_decay, alpha=alpha)


class OptimizerConfig:
    """The presets as keyword arguments of :func:`create_optimizer`.

    They are read off the factories in :mod:`dovetail.optimizers.presets`, so that there is one table of
    values.
    """

    @classmethod
    def default(cls) -> dict[str, Any]:
        """Return AdamW with light decay."""
        return _preset("adamw", presets.default)

    @classmethod
    def fast_convergence(cls) -> dict[str, Any]:
        """Return AdamW with a three times higher learning rate."""
        return _preset("adamw", presets.fast_convergence)

    @classmethod
    def strong_regularization(cls) -> dict[str, Any]:
        """Return AdamW with ten times the default preset's decay."""
        return _preset("adamw", presets.strong_regularization)

    @classmethod
    def sgd_baseline(cls) -> dict[str, Any]:
        """Return SGD with Nesterov's momentum."""
        return _preset("sgd", presets.sgd_baseline)


def _preset(optimizer_type: str, factory: Callable[..., Optimizer]) -> dict[str, Any]:
    options = list(inspect.signature(factory).parameters.values())[1:]
    return {"optimizer_type": optimizer_type, **{one.name: one.default for one in options}}
