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
    """Return AdamW with light decay. Options and errors as for ``adamw``."""
    return adamw(params, lr=lr, weight_decay=weight_decay, betas=betas)


def fast_convergence(
    params: Params,
    *,
    lr: NonNegative = 3e-3,
    weight_decay: NonNegative = 1e-4,
    betas: tuple[Share, Share] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with a three times higher learning rate. Options and errors as for ``adamw``."""
    return adamw(params, lr=lr, weight_decay=weight_decay, betas=betas)


def strong_regularization(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    weight_decay: NonNegative = 1e-3,
    betas: tuple[Share, Share] = (0.9, 0.999),
) -> AdamW:
    """Return AdamW with ten times the decay of ``default``. Options and errors as for ``adamw``."""
    return adamw(params, lr=lr, weight_decay=weight_decay, betas=betas)


def sgd_baseline(
    params: Params,
    *,
    lr: NonNegative = 1e-2,
    momentum: NonNegative = 0.9,
    weight_decay: NonNegative = 1e-4,
    nesterov: bool = True,
) -> SGD:
    """Return SGD with Nesterov's momentum, slow and hard to beat. Options and errors as for ``sgd``."""
    return sgd(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
