"""Torch's optimizers with Dovetail's defaults, fused where possible.

A fused kernel makes an update in one pass over the parameters: the same mathematics, up to rounding. ``fused = false``
chooses torch's other implementations.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch.optim import LBFGS, SGD, Adam, AdamW, RMSprop

from dovetail.optimizers.fused import Params, can_fuse, init_momentum, read_params
from dovetail.spec import AtLeast, Between, MoreThan

NonNegative = Annotated[float, AtLeast(0)]
Fraction = Annotated[float, Between(0, 1)]


def adamw(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.01,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> AdamW:
    """Return AdamW: Loshchilov and Hutter, «Decoupled weight decay regularization», 2019.

    Args:
        params: the parameters to optimise; the run provides them.
        lr: learning rate.
        betas: decay of the running means of the gradient and of its square, each at least 0 and below 1.
        eps: added to the denominator.
        weight_decay: fraction of each weight, times ``lr``, subtracted at each update.
        amsgrad: whether to use the largest running mean of the squared gradient so far.
        fused: whether one kernel makes the whole update; by default, wherever torch has such a kernel.

    Raises:
        ValueError: there are no parameters, or torch refuses an option.
    """
    parameters = read_params(params)
    return AdamW(
        parameters,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        fused=can_fuse(parameters) if fused is None else fused,
    )


def adam(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> Adam:
    """Return Adam: Kingma and Ba, «Adam: a method for stochastic optimization», 2015.

    Args:
        params: the parameters to optimise; the run provides them.
        lr: learning rate.
        betas: decay of the running means of the gradient and of its square, each at least 0 and below 1.
        eps: added to the denominator.
        weight_decay: fraction of each weight added to its gradient; for decoupled weight decay, use AdamW.
        amsgrad: whether to use the largest running mean of the squared gradient so far.
        fused: whether one kernel makes the whole update; by default, wherever torch has such a kernel.

    Raises:
        ValueError: there are no parameters, or torch refuses an option.
    """
    parameters = read_params(params)
    return Adam(
        parameters,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        fused=can_fuse(parameters) if fused is None else fused,
    )


def sgd(
    params: Params,
    *,
    lr: NonNegative = 1e-2,
    momentum: NonNegative = 0.9,
    dampening: float = 0.0,
    weight_decay: NonNegative = 1e-4,
    nesterov: bool = True,
    fused: bool | None = None,
) -> SGD:
    """Return stochastic gradient descent, by default with Nesterov momentum.

    Args:
        params: the parameters to optimise; the run provides them.
        lr: learning rate.
        momentum: fraction of the last step added to the next.
        dampening: fraction of the gradient left out of the momentum; must be 0 with Nesterov momentum.
        weight_decay: fraction of each weight added to its gradient.
        nesterov: whether to apply the gradient after the momentum step; needs ``momentum > 0``.
        fused: whether one kernel makes the whole update; by default, wherever torch has such a kernel.

    Raises:
        ValueError: there are no parameters, or ``nesterov`` is on without momentum or with dampening.
    """
    if nesterov and (momentum <= 0 or dampening):
        raise ValueError(
            f"nesterov: needs momentum above 0 and no dampening, got momentum = {momentum:g}, "
            f"dampening = {dampening:g}; set nesterov = false for plain momentum or none"
        )
    parameters = read_params(params)
    optimizer = SGD(
        parameters,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        # Torch has no fused SGD for sharded weights.
        fused=can_fuse(parameters, sharded=False) if fused is None else fused,
    )
    init_momentum(optimizer)
    return optimizer


def rmsprop(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    alpha: Fraction = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-5,
    momentum: NonNegative = 0.0,
    centered: bool = False,
) -> RMSprop:
    """Return RMSprop: Tieleman and Hinton, «Lecture 6.5: RMSProp», 2012. Torch has no fused RMSprop.

    Args:
        params: the parameters to optimise; the run provides them.
        lr: learning rate.
        alpha: decay of the running mean of the squared gradient, 0 to 1.
        eps: added to the denominator.
        weight_decay: fraction of each weight added to its gradient.
        momentum: fraction of the last step added to the next.
        centered: whether to subtract the squared mean of the gradient, so that its variance normalises the step.

    Raises:
        ValueError: there are no parameters.
    """
    return RMSprop(
        read_params(params),
        lr=lr,
        alpha=alpha,
        eps=eps,
        weight_decay=weight_decay,
        momentum=momentum,
        centered=centered,
    )


def lbfgs(
    params: Params,
    *,
    lr: Annotated[float, MoreThan(0)] = 1.0,
    max_iter: Annotated[int, AtLeast(1)] = 20,
    max_eval: Annotated[int, AtLeast(1)] | None = None,
    tolerance_grad: NonNegative = 1e-7,
    tolerance_change: NonNegative = 1e-9,
    history_size: Annotated[int, AtLeast(1)] = 100,
    line_search_fn: Literal["strong_wolfe"] | None = "strong_wolfe",
) -> LBFGS:
    """Return L-BFGS: Liu and Nocedal, «On the limited memory BFGS method for large scale optimization», 1989.

    One update evaluates the loss and its gradient up to ``max_eval`` times on the same batches. Use it for losses
    without noise: full batches, no dropout. Gradients are not clipped, and half precision is refused.

    Args:
        params: the parameters to optimise, in one group; the run provides them.
        lr: length of the first step to try.
        max_iter: iterations per update.
        max_eval: evaluations per update; by default 1.25 times ``max_iter``.
        tolerance_grad: the update ends once no gradient is larger than this.
        tolerance_change: the update ends once a step changes neither a parameter nor the loss by more than this.
        history_size: number of earlier steps that approximate the curvature.
        line_search_fn: how to choose the step length; None takes a step of length ``lr`` without a search.

    Raises:
        ValueError: there are no parameters, or they are in several groups (``no_decay``).
    """
    return LBFGS(
        read_params(params),
        lr=lr,
        max_iter=max_iter,
        max_eval=max_eval,
        tolerance_grad=tolerance_grad,
        tolerance_change=tolerance_change,
        history_size=history_size,
        line_search_fn=line_search_fn,
    )
