"""Training mode and evaluation mode of layers: an epoch starts with the modes that training started with."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from torch import nn

_logger: Final = logging.getLogger("dovetail.train")


def enter_training_mode(module: nn.Module) -> None:
    """Put a module into training mode; layers that stand in evaluation mode inside a module that trains stay there.

    A module that is in evaluation mode itself, as pretrained models are when they are loaded, is put into training mode
    with all its layers.
    """
    if not module.training:
        module.train()


def evaluating_layers(module: nn.Module) -> list[str]:
    """Return the names of the layers in evaluation mode."""
    return [name for name, layer in module.named_modules() if not layer.training]


def set_evaluating(module: nn.Module, names: Collection[str]) -> None:
    """Put the named layers into evaluation mode, and all others into training mode."""
    for name, layer in module.named_modules():
        layer.training = name not in names


def start_modes(modules: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Enter training mode, and return the layers in evaluation mode of each module, with which every epoch starts."""
    for module in modules.values():
        enter_training_mode(module)
    modes = {path: evaluating_layers(module) for path, module in modules.items()}
    for path, names in modes.items():
        if names:
            _logger.info("these layers of the %s stay in evaluation mode: %s", path, ", ".join(names))
    return modes


def still_layers(model: nn.Module, patterns: Sequence[str], frozen: Collection[nn.Parameter]) -> list[nn.Module]:
    """Return the layers whose running statistics must not move because they are frozen.

    Args:
        model: the model.
        patterns: names of parameters and buffers that are frozen, in which ``*`` matches anything.
        frozen: the frozen parameters.
    """
    found, still = [], set(frozen)
    for name, layer in model.named_modules():
        if getattr(layer, "running_mean", None) is None:
            continue
        parameters = list(layer.parameters(recurse=False))
        matches = any(fnmatchcase(f"{name}.running_mean", pattern) for pattern in patterns)
        if matches or (parameters and still.issuperset(parameters)):
            found.append(layer)
    return found
