"""Building blocks of the networks: input checks, convolution block, pooling, and head."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

SIGNAL: Final = 2  # dimensions of one sample: [channels, time]
SPECTROGRAM: Final = 3  # [channels, frequencies, times]


def require_channels(input_shape: tuple[int, ...], dimensions: int) -> int:
    """Return the number of channels; ValueError if samples do not have ``dimensions`` dimensions."""
    if len(input_shape) != dimensions:
        form = "[channels, time]" if dimensions == SIGNAL else "[channels, frequencies, times]"
        raise ValueError(f"input_shape: must be {form}, got {list(input_shape)}")
    return input_shape[0]


def check_inputs(inputs: Tensor, channels: int, dimensions: int) -> None:
    """Raise ValueError unless inputs are a floating-point batch with these channels and dimensions of a sample."""
    if inputs.ndim != dimensions + 1 or inputs.shape[1] != channels or not inputs.is_floating_point():
        form = "time" if dimensions == SIGNAL else "frequencies, times"
        found = f"{tuple(inputs.shape)} of {inputs.dtype}"
        raise ValueError(f"needs floating-point inputs of shape [batch, {channels}, {form}], got {found}")


def head(features: int, num_classes: int | None, num_outputs: int | None) -> nn.Linear:
    """Return the last layer, for logits or the values of a regression; ValueError if neither number is given."""
    size = num_classes if num_outputs is None else num_outputs
    if size is None:
        raise ValueError("num_classes: the dataset has no number of classes; set num_classes or num_outputs")
    return nn.Linear(features, size)


def convolution(before: int, after: int, kernel: int, *, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    """Return a convolution over time with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv1d(before, after, kernel, stride, kernel // 2 if padding is None else padding, bias=False),
        nn.BatchNorm1d(after),
        nn.ReLU(),
    )


def halve_time(signals: Tensor) -> Tensor:
    """Max-pool over time by 2; a single time step stays."""
    return nn.functional.max_pool1d(signals, 2) if signals.shape[-1] > 1 else signals


def global_mean(values: Tensor, dimensions: int) -> Tensor:
    """Return the mean over the last dimensions; adaptive pooling has no deterministic backward on CUDA."""
    return values.mean(tuple(range(-dimensions, 0)))


def with_coordinate_channel(values: Tensor, dim: int) -> Tensor:
    """Append a channel to [N, channels, …] that holds the position along ``dim``, from -1 to 1.

    Convolutions are blind to position, but position along the frequency axis matters (Liu et al., CoordConv, NeurIPS
    2018).
    """
    place = torch.linspace(-1, 1, values.shape[dim], device=values.device, dtype=values.dtype)
    shape = [1] * values.ndim
    shape[dim] = -1
    return torch.cat([values, place.reshape(shape).expand(len(values), 1, *values.shape[2:])], dim=1)


def require_positive(**values: int) -> None:
    """Raise ValueError with the name of the first value below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def weighted_mean(values: list[Tensor], weights: list[float]) -> Tensor:
    """Return the weighted mean of tensors of equal shape."""
    total = sum(weights)
    return torch.stack([value * (weight / total) for value, weight in zip(values, weights, strict=True)]).sum(0)
