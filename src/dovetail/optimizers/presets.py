"""Named settings that are good starting points, each a factory whose defaults are the preset."""

from __future__ import annotations

from torch.optim import SGD, AdamW

from dovetail.optimizers.factories import NonNegative, Share, adamw, sgd
from dovetail.optimizers.fused import Params


def default(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    weight_decay: NonNegative = 1e-4,
    betas: tuple[Share, Share] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with light decay. Errors as for ``adamw``.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        weight_decay: decoupled weight decay.
        betas: decay of the running means of the gradient and of its square.
    """
    return adamw(params, lr=lr, weight_decay=weight_decay, betas=betas)


def fast_convergence(
    params: Params,
    *,
    lr: NonNegative = 3e-3,
    weight_decay: NonNegative = 1e-4,
    betas: tuple[Share, Share] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with a three times higher learning rate. Errors as for ``adamw``.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        weight_decay: decoupled weight decay.
        betas: decay of the running means of the gradient and of its square.
    """
    return adamw(params, lr=lr, weight_decay=weight_decay, betas=betas)


def strong_regularization(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    weight_decay: NonNegative = 1e-3,
    betas: tuple[Share, Share] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with ten times the decay of ``default``. Errors as for ``adamw``.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        weight_decay: decoupled weight decay.
        betas: decay of the running means of the gradient and of its square.
    """
    return adamw(params, lr=lr, weight_decay=weight_decay, betas=betas)


def sgd_baseline(
    params: Params,
    *,
    lr: NonNegative = 1e-2,
    momentum: NonNegative = 0.9,
    weight_decay: NonNegative = 1e-4,
    nesterov: bool = True,
) -> SGD:
    """Return SGD with Nesterov's momentum, slow and hard to beat. Errors as for ``sgd``.

    Args:
        params: the parameters, or groups of them.
        lr: learning rate.
        momentum: share of the last step that is kept.
        weight_decay: weight decay, added to the gradient.
        nesterov: look ahead by the momentum.
    """
    return sgd(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
