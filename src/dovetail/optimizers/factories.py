"""Torch's optimizers with the defaults of this project, fused where they can be.

The fused kernels do an update in one pass: same mathematics, not always the same last bit. ``fused = false``
chooses torch's other implementations.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch.optim import LBFGS, SGD, Adam, AdamW, RMSprop

from dovetail.optimizers.fused import Params, begin_momentum, can_fuse, read_params
from dovetail.spec.limits import AtLeast, Between, MoreThan

NonNegative = Annotated[float, AtLeast(0)]
Share = Annotated[float, Between(0, 1)]


def adamw(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    betas: tuple[Share, Share] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.01,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> AdamW:
    """Return AdamW: Loshchilov and Hutter, «Decoupled weight decay regularization», 2019.

    Args:
        params: what to optimise; the run provides it.
        lr: learning rate.
        betas: how slowly the averages of the gradient and of its square forget, each from 0 to below 1.
        eps: added to the denominator.
        weight_decay: share of the weight, times ``lr``, taken off at each update.
        amsgrad: whether the largest average of squares so far is used.
        fused: one kernel for the whole update; by default wherever torch has it.

    Raises:
        ValueError: there are no parameters, or torch refuses an option.
    """
    listed = read_params(params)
    return AdamW(
        listed,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        fused=can_fuse(listed) if fused is None else fused,
    )


def adam(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    betas: tuple[Share, Share] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> Adam:
    """Return Adam: Kingma and Ba, «Adam: a method for stochastic optimization», 2015.

    Args:
        params: what to optimise; the run provides it.
        lr: learning rate.
        betas: how slowly the averages of the gradient and of its square forget, each from 0 to below 1.
        eps: added to the denominator.
        weight_decay: share of the weight added to the gradient; for decay proper, use AdamW.
        amsgrad: whether the largest average of squares so far is used.
        fused: one kernel for the whole update; by default wherever torch has it.

    Raises:
        ValueError: there are no parameters, or torch refuses an option.
    """
    listed = read_params(params)
    return Adam(
        listed,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        fused=can_fuse(listed) if fused is None else fused,
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
    """Return stochastic gradient descent, with Nesterov's momentum unless told otherwise.

    Args:
        params: what to optimise; the run provides it.
        lr: learning rate.
        momentum: share of the last step kept in the next.
        dampening: share of the gradient kept out of the momentum; 0 with Nesterov's.
        weight_decay: share of the weight added to the gradient.
        nesterov: whether the gradient is applied after the momentum's step; needs ``momentum > 0``.
        fused: one kernel for the whole update; by default wherever torch has it.

    Raises:
        ValueError: there are no parameters, or ``nesterov`` is on without momentum or with dampening.
    """
    if nesterov and (momentum <= 0 or dampening):
        msg = f"nesterov: needs momentum above 0 and no dampening, got momentum = {momentum:g}, "
        msg += f"dampening = {dampening:g}; set nesterov = false for plain momentum or none"
        raise ValueError(msg)
    listed = read_params(params)
    made = SGD(
        listed,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        # Torch has no fused one for weights that processes share out among them.
        fused=can_fuse(listed, sharded=False) if fused is None else fused,
    )
    begin_momentum(made)
    return made


def rmsprop(
    params: Params,
    *,
    lr: NonNegative = 1e-3,
    alpha: Share = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-5,
    momentum: NonNegative = 0.0,
    centered: bool = False,
) -> RMSprop:
    """Return RMSprop: Tieleman and Hinton, «Lecture 6.5: RMSProp», 2012. Torch has no fused one.

    Args:
        params: what to optimise; the run provides it.
        lr: learning rate.
        alpha: how slowly the average of the squared gradient forgets, 0 to 1.
        eps: added to the denominator.
        weight_decay: share of the weight added to the gradient.
        momentum: share of the last step kept in the next.
        centered: whether the gradient's mean is taken off its square.

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

    One update asks for the loss and its gradient up to ``max_eval`` times, on the same batches. It is meant for losses
    without noise: batches that hold all samples, no dropout. Its gradients are not clipped, and half precision is
    refused.

    Args:
        params: what to optimise, in one group; the run provides it.
        lr: length of the first step that is tried.
        max_iter: steps within an update.
        max_eval: evaluations within an update; a quarter more than ``max_iter`` unless set.
        tolerance_grad: an update ends once no gradient is larger than this.
        tolerance_change: an update ends once a step changes no parameter, or the loss, by more than this.
        history_size: earlier steps from which the curvature is known.
        line_search_fn: how far to go along each direction; None goes ``lr`` far, without looking.

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
