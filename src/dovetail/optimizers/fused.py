"""When torch's fused optimizers can be used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from dovetail.checkpoint.shares import is_sharded

#: What an optimizer takes: tensors, ``(name, tensor)`` pairs, or groups of them.
Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]

_FUSED_DEVICES: Final = frozenset({"cpu", "cuda"})


def read_params(params: Params) -> list[Any]:
    """Return ``params`` as a list that may be read twice, also inside its groups.

    Raises:
        ValueError: there are none, so that there would be nothing to optimise.
        TypeError: they are a model.
    """
    if isinstance(params, nn.Module):
        msg = f"params: pass the model's parameters, model.parameters(), not the model ({type(params).__name__})"
        raise TypeError(msg)
    listed: list[Any] = list(params)
    for place, one in enumerate(listed):
        if isinstance(one, dict):
            inside = one["params"]
            listed[place] = {**one, "params": [inside] if isinstance(inside, Tensor) else list(inside)}
    if not any(True for _ in _tensors(listed)):
        msg = "params: there is nothing to optimise: the model has no trainable parameters"
        raise ValueError(msg)
    return listed


def can_fuse(params: list[Any], *, sharded: bool = True) -> bool:
    """Say whether one fused kernel can update ``params``: all floating, all on one CPU or CUDA device.

    Args:
        params: tensors, pairs or groups of them.
        sharded: whether they may be shared out over processes.
    """
    found = list(_tensors(params))
    if not sharded and any(map(is_sharded, found)):
        return False
    devices = {one.device for one in found}
    return len(devices) == 1 and devices.pop().type in _FUSED_DEVICES and all(one.is_floating_point() for one in found)


def begin_momentum(optimizer: Optimizer) -> None:
    """Let the momentum of a fused SGD begin at 0, which without dampening is what its first step makes of it.

    Torch begins it in the first step, in memory as it finds it: where that step is then left out, as half precision
    does with gradients that are too large, the next one takes what happened to lie there for momentum. A parameter
    that has its first gradient in a later step ends that step with a TypeError.
    """
    for group in optimizer.param_groups if isinstance(optimizer, SGD) else ():
        if group["fused"] and group["momentum"] and not group["dampening"]:
            for one in group["params"]:
                if optimizer.state[one].get("momentum_buffer") is None:
                    optimizer.state[one]["momentum_buffer"] = torch.zeros_like(one)


def _tensors(params: list[Any]) -> Iterable[Tensor]:
    for one in params:
        if isinstance(one, dict):
            yield from _tensors(one["params"])
        else:
            yield one[1] if isinstance(one, tuple) else one
