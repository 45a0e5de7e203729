"""Building blocks of the small models: activations, linear stacks, output heads, and checks of options and inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal

from torch import Tensor, nn

from dovetail.spec import AtLeast

Activation = Literal["relu", "gelu", "silu", "tanh", "elu", "leaky_relu"]
Size = Annotated[int, AtLeast(1)]

_ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}


def activation_layer(name: str) -> nn.Module:
    """Return a new activation layer.

    Raises:
        ValueError: there is no activation of that name.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation: {name!r} is not one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


def linear_stack(sizes: Sequence[int], activation: str, dropout: float, *, batch_norm: bool) -> nn.Sequential:
    """Return linear layers of ``sizes``, each followed by batch norm, activation and dropout."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers.append(nn.Linear(before, after))
        if batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(activation_layer(activation))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class Head(nn.Linear):
    """The last layer: class logits, or predicted values.

    Args:
        features: number of input features.
        num_classes: predict classes: logits ``[batch, num_classes]``.
        num_outputs: predict values instead: ``[batch, num_outputs]``.

    Raises:
        ValueError: neither number is known, or one is below 1.
    """

    def __init__(self, features: int, num_classes: int | None, num_outputs: int | None) -> None:
        size = num_classes if num_outputs is None else num_outputs
        if size is None:
            raise ValueError("num_classes: unknown for this dataset; set num_classes, or num_outputs for a regression")
        check_sizes(**{"num_classes" if num_outputs is None else "num_outputs": [size]})
        super().__init__(features, size)


def check_sizes(**sizes: Sequence[int]) -> None:
    """Raise ValueError naming the first parameter with a size below 1."""
    for name, values in sizes.items():
        for value in values:
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, got {value}")


def check_fraction(name: str, value: float) -> None:
    """Raise ValueError unless ``0 ≤ value < 1``."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}: must be at least 0 and below 1, got {value:g}")


def check_samples(model: str, inputs: Tensor, sample: Sequence[int], *, training_norm: bool) -> None:
    """Check a batch against the shape of the samples that a model was built for.

    Args:
        model: the model's name, for messages.
        inputs: the batch, ``[batch, …]``.
        sample: shape of one sample; a batch may have another shape with as many values per sample.
        training_norm: whether the batch is about to be normalised over its samples, which needs more than one.

    Raises:
        ValueError: the number of values per sample, the number of samples, or the type does not fit.
    """
    if math.prod(inputs.shape[1:]) != math.prod(sample) or not inputs.ndim:
        got = list(inputs.shape)
        raise ValueError(f"{model}: was built for samples of shape {list(sample)}, got a batch of shape {got}")
    if not inputs.is_floating_point():
        raise ValueError(f"{model}: inputs are {inputs.dtype}; convert them to float first")
    if training_norm and len(inputs) == 1:
        raise ValueError(
            f"{model}: batch_norm cannot train on a batch of one sample; "
            "set loader.drop_last = true, or batch_norm = false"
        )
