"""How many parameters a model has, or would have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def num_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Count the numbers in a model's parameters, tied ones once.

    Args:
        model: the model.
        trainable: count only those that receive a gradient.
    """
    return sum(one.numel() for one in model.parameters() if one.requires_grad or not trainable)


def estimate_parameters(factory: Callable[..., nn.Module], **options: Any) -> int:
    """Count the parameters of the model that ``factory(**options)`` would make, without allocating any.

    It is built on torch's ``meta`` device, where tensors have shapes but no memory.

    Args:
        factory: a model's class, or a function that returns a model.
        options: its arguments.
    """
    with torch.device("meta"):
        return num_parameters(factory(**options))
