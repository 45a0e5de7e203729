"""A convolutional network followed by an LSTM, for signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import (
    SIGNAL,
    check_inputs,
    convolution,
    halve_time,
    head,
    require_channels,
    require_positive,
)


class CNNLSTM(nn.Module):
    """Classify signals of any length: convolutions over time, a bidirectional LSTM, then the mean of its states.

    Args:
        input_shape: [channels, time] of a sample; the run provides it.
        num_classes: number of classes; the run provides it. The output is [batch, num_classes].
        num_outputs: number of values to predict in a regression, which replaces classes; the run provides it.
        channels: output channels of each convolution, each with max-pooling by 2.
        kernel_size: of the convolutions.
        first_stride: stride of the first convolution.
        hidden: size of the LSTM's state in each direction.
        layers: number of LSTM layers.
        dropout: probability of dropping a feature in training.

    Raises:
        ValueError: samples are not signals, or a size is below 1.

    Source:
        Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 9 (1997); with convolutions: Sainath et
        al., Convolutional, long short-term memory, fully connected deep neural networks (ICASSP 2015).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[int | None, Provided] = None,
        channels: Sequence[Annotated[int, AtLeast(1)]] = (16, 32, 64),
        kernel_size: Annotated[int, AtLeast(1)] = 9,
        first_stride: Annotated[int, AtLeast(1)] = 4,
        hidden: Annotated[int, AtLeast(1)] = 64,
        layers: Annotated[int, AtLeast(1)] = 1,
        dropout: Annotated[float, Between(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        self.channels = require_channels(input_shape, SIGNAL)
        require_positive(kernel_size=kernel_size, hidden=hidden, layers=layers, channels=min(channels, default=0))
        first, *rest = channels
        self.stem = convolution(self.channels, first, 2 * kernel_size + 1, stride=first_stride)
        self.blocks = nn.ModuleList(
            convolution(before, after, kernel_size) for before, after in zip(channels, rest, strict=False)
        )
        self.memory = nn.LSTM(channels[-1], hidden, layers, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.head = head(2 * hidden, num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of signals [batch, channels, time]; ValueError for other inputs."""
        check_inputs(inputs, self.channels, SIGNAL)
        found = halve_time(self.stem(inputs))
        for block in self.blocks:
            found = halve_time(block(found))
        states, _ = self.memory(found.transpose(1, 2))
        logits: Tensor = self.head(self.dropout(states.mean(1)))
        return logits
