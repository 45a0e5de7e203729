"""A plain convolutional network for signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import (
    SIGNAL,
    check,
    convolution,
    global_mean,
    halve_time,
    head,
    require_channels,
    sizes,
)


class CNN1D(nn.Module):
    """Convolutions over time, each followed by a halving, then the mean over what is left.

    It takes signals of any length.

    Args:
        input_shape: [channels, time] of a sample; the dataset provides it.
        num_classes: classes to tell apart; the dataset provides it. Output [batch, num_classes].
        num_outputs: predict this many numbers instead; the dataset of a regression provides it.
        channels: after each convolution.
        kernel_size: of the convolutions; the first one's is twice as long and takes every other step.
        dropout: share of the pooled features set to 0 while training.

    Raises:
        ValueError: samples are no signals, or a size is below 1.
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
        sizes(kernel_size=kernel_size, channels=min(channels, default=0))
        first, *rest = channels
        self.stem = convolution(self.channels, first, 2 * kernel_size + 1, stride=2)
        self.blocks = nn.ModuleList(
            convolution(before, after, kernel_size) for before, after in zip(channels, rest, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = head(channels[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of signals [batch, channels, time]; ValueError where they are none."""
        check(inputs, self.channels, SIGNAL)
        found = halve_time(self.stem(inputs))
        for block in self.blocks:
            found = halve_time(block(found))
        logits: Tensor = self.head(self.dropout(global_mean(found, 1)))
        return logits
