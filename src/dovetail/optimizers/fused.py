"""Parameters as optimizers take them, and whether torch's fused optimizers can update them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from dovetail.checkpoint.sharded import is_sharded

#: What an optimizer takes: tensors, ``(name, tensor)`` pairs, or groups of them.
Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]

_FUSED_DEVICES: Final = frozenset({"cpu", "cuda"})


def read_params(params: Params) -> list[Any]:
    """Return ``params`` as a list that can be read more than once; generators inside groups become lists too.

    Raises:
        ValueError: there are no parameters.
        TypeError: ``params`` is a model.
    """
    if isinstance(params, nn.Module):
        raise TypeError(
            f"params: pass the model's parameters, model.parameters(), not the model ({type(params).__name__})"
        )
    entries: list[Any] = list(params)
    for index, entry in enumerate(entries):
        if isinstance(entry, dict):
            inside = entry["params"]
            entries[index] = {**entry, "params": [inside] if isinstance(inside, Tensor) else list(inside)}
    if not any(True for _ in _tensors(entries)):
        raise ValueError("params: there is nothing to optimise: the model has no trainable parameters")
    return entries


def can_fuse(params: list[Any], *, sharded: bool = True) -> bool:
    """Return whether one fused kernel can update ``params``: all floating-point, all on the same CPU or CUDA device.

    Args:
        params: tensors, pairs or groups of them.
        sharded: whether the kernel takes parameters that are sharded over processes.
    """
    tensors = list(_tensors(params))
    if not sharded and any(map(is_sharded, tensors)):
        return False
    devices = {tensor.device for tensor in tensors}
    floating = all(tensor.is_floating_point() for tensor in tensors)
    return len(devices) == 1 and devices.pop().type in _FUSED_DEVICES and floating


def init_momentum(optimizer: Optimizer) -> None:
    """Start the momentum of a fused SGD at 0; without dampening, torch's first step computes the same momentum.

    Torch allocates the momentum uninitialised and fills it in the first step. If that step is skipped, as the loss
    scaler does when gradients overflow, the next step would use whatever the memory held. A parameter whose first
    gradient arrives in a later step would make that step raise a TypeError.
    """
    for group in optimizer.param_groups if isinstance(optimizer, SGD) else ():
        if group["fused"] and group["momentum"] and not group["dampening"]:
            for parameter in group["params"]:
                if optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _tensors(params: list[Any]) -> Iterable[Tensor]:
    for entry in params:
        if isinstance(entry, dict):
            yield from _tensors(entry["params"])
        else:
            yield entry[1] if isinstance(entry, tuple) else entry
