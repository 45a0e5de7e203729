"""A plain convolutional network for signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import (
    SIGNAL,
    check_inputs,
    convolution,
    global_mean,
    halve_time,
    head,
    require_channels,
    require_positive,
)


class CNN1D(nn.Module):
    """Classify signals of any length: convolutions over time, each with max-pooling by 2, then global average pooling.

    Args:
        input_shape: [channels, time] of a sample; the run provides it.
        num_classes: number of classes; the run provides it. The output is [batch, num_classes].
        num_outputs: number of values to predict in a regression, which replaces classes; the run provides it.
        channels: output channels of each convolution.
        kernel_size: of the convolutions; the first has ``2 · kernel_size + 1`` and stride 2.
        dropout: probability of dropping a pooled feature in training.

    Raises:
        ValueError: samples are not signals, or a size is below 1.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[int | None, Provided] = None,
        channels: Sequence[Annotated[int, AtLeast(1)]] = (16, 32, 64, 64),
        kernel_size: Annotated[int, AtLeast(1)] = 9,
        dropout: Annotated[float, Between(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        self.channels = require_channels(input_shape, SIGNAL)
        require_positive(kernel_size=kernel_size, channels=min(channels, default=0))
        first, *rest = channels
        self.stem = convolution(self.channels, first, 2 * kernel_size + 1, stride=2)
        self.blocks = nn.ModuleList(
            convolution(before, after, kernel_size) for before, after in zip(channels, rest, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = head(channels[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of signals [batch, channels, time]; ValueError for other inputs."""
        check_inputs(inputs, self.channels, SIGNAL)
        found = halve_time(self.stem(inputs))
        for block in self.blocks:
            found = halve_time(block(found))
        logits: Tensor = self.head(self.dropout(global_mean(found, 1)))
        return logits
