"""Optimizers by name, from Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from torch.optim import SGD, AdamW, Optimizer, RMSprop

from dovetail.optimizers import presets
from dovetail.optimizers.factories import adam, adamw, rmsprop, sgd
from dovetail.optimizers.fused import Params
from dovetail.pieces.by_name import Factories

_OPTIMIZERS: Final = Factories[Optimizer](
    "optimizer", "optimizer_type", {"adamw": adamw, "adam": adam, "sgd": sgd, "rmsprop": rmsprop}
)


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
        lr: learning rate, > 0.
        weight_decay: weight decay, ≥ 0.
        kwargs: further options of that optimizer.

    Raises:
        ValueError: there is no optimizer of that name (the message suggests the nearest), it has no such option, or
            ``model_params`` is missing.
        TypeError: ``optimizer_type`` is not a string, or ``model_params`` is a model.
    """
    if model_params is None:
        raise ValueError("model_params: there is nothing to optimise; pass model.parameters()")
    return _OPTIMIZERS.build(optimizer_type, model_params, lr=lr, weight_decay=weight_decay, **kwargs)


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
    """Return SGD with Nesterov momentum; errors as for ``sgd``."""
    return sgd(model_params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def create_rmsprop_optimizer(
    model_params: Params, lr: float = 1e-3, weight_decay: float = 1e-5, alpha: float = 0.99
) -> RMSprop:
    """Return RMSprop; errors as for ``rmsprop``."""
    return rmsprop(model_params, lr=lr, weight_decay=weight_decay, alpha=alpha)


class OptimizerConfig:
    """The presets as keyword arguments of :func:`create_optimizer`.

    The values are the defaults of the functions in :mod:`dovetail.optimizers.presets`.
    """

    @classmethod
    def default(cls) -> dict[str, Any]:
        """Return AdamW with a light weight decay."""
        return _preset("adamw", presets.default)

    @classmethod
    def fast_convergence(cls) -> dict[str, Any]:
        """Return AdamW with three times the learning rate of the default preset."""
        return _preset("adamw", presets.fast_convergence)

    @classmethod
    def strong_regularization(cls) -> dict[str, Any]:
        """Return AdamW with ten times the weight decay of the default preset."""
        return _preset("adamw", presets.strong_regularization)

    @classmethod
    def sgd_baseline(cls) -> dict[str, Any]:
        """Return SGD with Nesterov momentum."""
        return _preset("sgd", presets.sgd_baseline)


def _preset(optimizer_type: str, factory: Callable[..., Optimizer]) -> dict[str, Any]:
    options = list(inspect.signature(factory).parameters.values())[1:]
    return {"optimizer_type": optimizer_type, **{option.name: option.default for option in options}}
