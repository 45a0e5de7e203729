"""Parameter counts of models, built or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def num_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of elements of a model's parameters, counting tied parameters once.

    Args:
        model: the model.
        trainable: count only parameters that receive a gradient.
    """
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not trainable)


def estimate_parameters(factory: Callable[..., nn.Module], **options: Any) -> int:
    """Return the number of parameters of the model ``factory(**options)``, without allocating memory for them.

    The model is built on torch's ``meta`` device, where tensors have shapes but no memory.

    Args:
        factory: a model's class, or a function that returns a model.
        options: its arguments.
    """
    with torch.device("meta"):
        return num_parameters(factory(**options))
