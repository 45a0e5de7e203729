"""Presets: named settings to start from, each a factory whose defaults are the preset."""

from __future__ import annotations

from torch.optim import SGD, AdamW

from dovetail.optimizers.factories import Fraction, NonNegative, adamw, sgd
from dovetail.optimizers.fused import Params


def default(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    weight_decay: NonNegative = 1e-4,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with light weight decay; raises as ``adamw`` does.

    Args:
        params: the parameters to optimise, or groups of them; the run provides them.
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
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with three times the learning rate of ``default``; raises as ``adamw`` does.

    Args:
        params: the parameters to optimise, or groups of them; the run provides them.
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
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with ten times the weight decay of ``default``; raises as ``adamw`` does.

    Args:
        params: the parameters to optimise, or groups of them; the run provides them.
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
    """Return SGD with Nesterov momentum, slow but hard to beat; raises as ``sgd`` does.

    Args:
        params: the parameters to optimise, or groups of them; the run provides them.
        lr: learning rate.
        momentum: fraction of the last step added to the next.
        weight_decay: fraction of each weight added to its gradient.
        nesterov: whether to apply the gradient after the momentum step.
    """
    return sgd(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
