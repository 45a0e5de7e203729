"""A residual network for signals."""

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


class _Block(nn.Module):
    """Two convolutions with a shortcut."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(before, after, kernel, stride=stride)
        self.second = nn.Conv1d(after, after, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(after)
        self.short_cut = (
            nn.Identity()
            if before == after and stride == 1
            else nn.Sequential(nn.Conv1d(before, after, 1, stride, bias=False), nn.BatchNorm1d(after))
        )

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.norm(self.second(self.first(inputs))) + self.short_cut(inputs)
        return found.relu()


class ResNet1D(nn.Module):
    """Classify signals of any length: residual blocks over time; every stage after the first halves the time.

    Args:
        input_shape: [channels, time] of a sample; the run provides it.
        num_classes: number of classes; the run provides it. The output is [batch, num_classes].
        num_outputs: number of values to predict in a regression, which replaces classes; the run provides it.
        channels: output channels of each stage.
        blocks: number of residual blocks in each stage.
        kernel_size: of the convolutions; odd.
        dropout: probability of dropping a pooled feature in training.

    Raises:
        ValueError: samples are not signals, a size is below 1, or the kernel is even.

    Source:
        He et al., Deep residual learning for image recognition (CVPR 2016); for time series: Wang, Yan and Oates, Time
        series classification from scratch with deep neural networks (IJCNN 2017).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[int | None, Provided] = None,
        channels: Sequence[Annotated[int, AtLeast(1)]] = (32, 64, 128),
        blocks: Annotated[int, AtLeast(1)] = 2,
        kernel_size: Annotated[int, AtLeast(1)] = 5,
        dropout: Annotated[float, Between(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        self.channels = require_channels(input_shape, SIGNAL)
        require_positive(blocks=blocks, kernel_size=kernel_size, channels=min(channels, default=0))
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.stem = convolution(self.channels, channels[0], 2 * kernel_size + 1, stride=2)
        layers: list[nn.Module] = []
        before = channels[0]
        for stage, after in enumerate(channels):
            for number in range(blocks):
                layers.append(_Block(before, after, kernel_size, 2 if stage and not number else 1))
                before = after
        self.stages = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = head(channels[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of signals [batch, channels, time]; ValueError for other inputs."""
        check_inputs(inputs, self.channels, SIGNAL)
        found = self.stages(halve_time(self.stem(inputs)))
        logits: Tensor = self.head(self.dropout(global_mean(found, 1)))
        return logits
