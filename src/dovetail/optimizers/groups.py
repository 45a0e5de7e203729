"""Parameter groups: which parameters weight decay applies to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import nn

#: Words in the names of parameters that weight decay usually skips.
NO_DECAY_KEYWORDS: Final = ("bias", "norm")


def split_parameters(
    model: nn.Module, no_decay_keywords: Sequence[str] = NO_DECAY_KEYWORDS
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable parameters with weight decay, and the trainable parameters without.

    A parameter is exempt if its name contains a keyword, in any case; or if it has at most one dimension and the class
    name of its layer contains a keyword, because a ``BatchNorm1d`` inside a ``Sequential`` names its weight
    ``"1.weight"``. Tied parameters appear once; frozen parameters are left out.

    Args:
        model: the model.
        no_decay_keywords: the keywords; without any, weight decay applies to every parameter.
    """
    keywords = tuple(keyword.lower() for keyword in no_decay_keywords)
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for prefix, module in model.named_modules():
        layer = type(module).__name__.lower()
        for name, parameter in module.named_parameters(prefix=prefix, recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            path = name.lower()
            exempt = any(keyword in path or (parameter.ndim <= 1 and keyword in layer) for keyword in keywords)
            (no_decay if exempt else decay).append(parameter)
    return decay, no_decay


def get_parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    no_decay_keywords: Sequence[str] = NO_DECAY_KEYWORDS,
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer: one with weight decay, and one without for biases and norms.

    Args:
        model: the model; frozen parameters are left out.
        lr: learning rate of both groups.
        weight_decay: weight decay of the first group; the second has 0.
        no_decay_keywords: keywords that choose the second group's parameters; see :func:`split_parameters`.

    Returns:
        At most two groups; an empty group is left out.
    """
    decay, no_decay = split_parameters(model, no_decay_keywords)
    groups = [
        {"params": decay, "lr": lr, "weight_decay": weight_decay},
        {"params": no_decay, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def trainable_groups(modules: Sequence[nn.Module], no_decay: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the trainable parameters of several modules as groups that take other settings from the optimizer.

    Args:
        modules: such as the model and a loss with trainable parameters.
        no_decay: keywords for :func:`split_parameters`; without any, all parameters are in one group.

    Returns:
        One group without settings, and one with ``weight_decay = 0``; an empty group is left out.
    """
    decay, exempt = split_parameters(nn.ModuleList(modules), no_decay)
    groups: list[dict[str, Any]] = [{"params": decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
