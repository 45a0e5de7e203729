"""A small convolutional network for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Final

from torch import Tensor, nn

from dovetail.kernel.kind import Provided
from dovetail.models.layers import (
    Activation,
    Head,
    Size,
    activation_layer,
    check_samples,
    check_share,
    check_sizes,
)
from dovetail.spec.limits import Between

_GREY: Final = 2  # dimensions of an image without channels


class CNN(nn.Module):
    """Convolutions, each halving the image, then the mean over what is left of it.

    Args:
        input_shape: shape of one image, ``[channels, height, width]`` or ``[height, width]``; the dataset
            provides it.
        num_classes: classes to tell apart; the dataset provides it. Output ``[batch, num_classes]``.
        num_outputs: predict this many numbers instead of classes; the dataset of a regression provides it.
            Output ``[batch, num_outputs]``.
        channels: channels after each convolution.
        kernel_size: side of each convolution's window, odd, so that it has a middle.
        dropout: share of the pooled features set to zero while training, 0 to 1.
        activation: after each convolution.
        batch_norm: whether each convolution's output is normalised over the batch before its activation.

    Raises:
        ValueError: the samples are no images, a size is below 1, or ``kernel_size`` is even.
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
        if len(input_shape) not in {_GREY, _GREY + 1}:
            msg = f"input_shape: {list(input_shape)} is no image, [channels, height, width] or [height, width]"
            raise ValueError(msg)
        check_sizes(input_shape=input_shape, channels=channels, kernel_size=[kernel_size])
        check_share("dropout", dropout)
        if not channels:
            msg = "channels: needs at least one convolution"
            raise ValueError(msg)
        if kernel_size % 2 == 0:
            msg = f"kernel_size: must be odd, got {kernel_size}"
            raise ValueError(msg)
        self.image_shape = (1, *input_shape) if len(input_shape) == _GREY else tuple(input_shape)
        self.batch_norm = batch_norm
        side = min(self.image_shape[1:])
        layers: list[nn.Module] = []
        for before, after in zip([self.image_shape[0], *channels[:-1]], channels, strict=True):
            layers.append(nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(after))
            layers.append(activation_layer(activation))
            if side > 1:  # an image one pixel high cannot be halved
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(channels[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, or predictions, of a batch ``[batch, *input_shape]``.

        Raises:
            ValueError: the batch has images of another size, or not floats.
        """
        one_value = math.prod(self.image_shape[1:]) == 1
        check_samples("cnn", inputs, self.image_shape, training_norm=self.batch_norm and self.training and one_value)
        images = inputs.reshape(-1, *self.image_shape)
        # The mean, not adaptive pooling: that has no deterministic backward on CUDA.
        found: Tensor = self.head(self.dropout(self.features(images).mean(dim=(-2, -1))))
        return found
