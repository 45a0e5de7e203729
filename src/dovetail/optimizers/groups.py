"""Parameter groups: which parameters are not to decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import nn

#: Words in the name of a parameter that is usually left out of weight decay.
NO_DECAY_KEYWORDS: Final = ("bias", "norm")


def split_parameters(
    model: nn.Module, no_decay_keywords: Sequence[str] = NO_DECAY_KEYWORDS
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable parameters that decay, and those that do not.

    A parameter does not decay when its name contains one of the words, in any case; or when it has at most
    one dimension and the name of its layer's class contains one: the weight of a ``BatchNorm1d`` inside a
    ``Sequential`` is called ``"1.weight"``. Tied parameters are counted once, frozen ones left out.

    Args:
        model: the model.
        no_decay_keywords: the words; none lets everything decay.
    """
    words = tuple(word.lower() for word in no_decay_keywords)
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for path, module in model.named_modules():
        layer = type(module).__name__.lower()
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            full = name.lower()
            exempt = any(word in full or (parameter.ndim <= 1 and word in layer) for word in words)
            (no_decay if exempt else decay).append(parameter)
    return decay, no_decay


def get_parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    no_decay_keywords: Sequence[str] = NO_DECAY_KEYWORDS,
) -> list[dict[str, Any]]:
    """Return groups for an optimizer: with weight decay, and without for biases and norms.

    Args:
        model: the model; its frozen parameters are left out.
        lr: learning rate of both groups.
        weight_decay: of the first group; the second has 0.
        no_decay_keywords: which parameters go into the second, see :func:`split_parameters`.

    Returns:
        At most two groups; one that would be empty is left out.
    """
    decay, no_decay = split_parameters(model, no_decay_keywords)
    groups = [
        {"params": decay, "lr": lr, "weight_decay": weight_decay},
        {"params": no_decay, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def trainable_groups(modules: Sequence[nn.Module], no_decay: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the trainable parameters of several modules as groups that leave the rest to the optimizer's factory.

    Args:
        modules: such as the model and a loss with parameters of its own.
        no_decay: words for :func:`split_parameters`; none makes one group.

    Returns:
        One group, or one without settings and one with ``weight_decay = 0``; one that would be empty is left
        out.
    """
    decay, exempt = split_parameters(nn.ModuleList(modules), no_decay)
    groups: list[dict[str, Any]] = [{"params": decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
