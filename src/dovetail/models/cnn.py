"""A small convolutional network for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Final

from torch import Tensor, nn

from dovetail.models.layers import (
    Activation,
    Head,
    Size,
    activation_layer,
    check_fraction,
    check_samples,
    check_sizes,
)
from dovetail.spec import Between, Provided

_GREYSCALE: Final = 2  # dimensions of an image without channels


class CNN(nn.Module):
    """Convolutions that each halve the image, then global average pooling and a linear head.

    Args:
        input_shape: shape of one image, ``[channels, height, width]`` or ``[height, width]``; the dataset provides it.
        num_classes: number of classes; the dataset provides it. Output ``[batch, num_classes]``.
        num_outputs: predict this many values instead of classes; the dataset of a regression provides it. Output
            ``[batch, num_outputs]``.
        channels: number of channels after each convolution.
        kernel_size: side of each convolution's kernel; odd, so that it has a centre.
        dropout: fraction of the pooled features set to zero in training, 0 to 1.
        activation: after each convolution.
        batch_norm: whether each convolution's output is normalised over the batch before its activation.

    Raises:
        ValueError: the samples are not images, a size is below 1, or ``kernel_size`` is even.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[Size | None, Provided] = None,
        channels: Sequence[Size] = (32, 64),
        kernel_size: Size = 3,
        dropout: Annotated[float, Between(0, 1)] = 0.0,
        activation: Activation = "relu",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if len(input_shape) not in {_GREYSCALE, _GREYSCALE + 1}:
            raise ValueError(
                f"input_shape: {list(input_shape)} is not an image, [channels, height, width] or [height, width]"
            )
        check_sizes(input_shape=input_shape, channels=channels, kernel_size=[kernel_size])
        check_fraction("dropout", dropout)
        if not channels:
            raise ValueError("channels: needs at least one convolution")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: must be odd, got {kernel_size}")
        self.image_shape = (1, *input_shape) if len(input_shape) == _GREYSCALE else tuple(input_shape)
        self.batch_norm = batch_norm
        side = min(self.image_shape[1:])
        layers: list[nn.Module] = []
        for before, after in zip([self.image_shape[0], *channels[:-1]], channels, strict=True):
            layers.append(nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(after))
            layers.append(activation_layer(activation))
            if side > 1:  # an image of one pixel cannot be halved
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(channels[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, or predicted values, of a batch ``[batch, *input_shape]``.

        Raises:
            ValueError: the batch has images of another size, or is not floating-point.
        """
        one_pixel = math.prod(self.image_shape[1:]) == 1
        check_samples("cnn", inputs, self.image_shape, training_norm=self.batch_norm and self.training and one_pixel)
        images = inputs.reshape(-1, *self.image_shape)
        # Adaptive pooling has no deterministic backward on CUDA; the mean has.
        logits: Tensor = self.head(self.dropout(self.features(images).mean(dim=(-2, -1))))
        return logits
