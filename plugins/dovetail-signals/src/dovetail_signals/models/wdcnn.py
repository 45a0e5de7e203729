"""WDCNN: a convolutional network with a wide first kernel and small ones after it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import SIGNAL, check_inputs, convolution, halve_time, head, require_channels


class WDCNN(nn.Module):
    """Classify signals by a convolutional network whose wide first kernel acts as a bank of noise filters.

    All signals must have the same length, because the output of the last of five poolings is flattened.

    Args:
        input_shape: [channels, time] of a sample; the run provides it.
        num_classes: number of classes; the run provides it. The output is [batch, num_classes].
        num_outputs: number of values to predict in a regression, which replaces classes; the run provides it.
        first_kernel: size of the first kernel.
        first_stride: stride of the first convolution.
        hidden: size of the last hidden layer.
        dropout: dropout probability of that layer; the paper has none.

    Raises:
        ValueError: samples are not signals.

    Source:
        Zhang et al., A new deep learning model for fault diagnosis with good anti-noise and domain adaptation ability
        on raw vibration signals, Sensors 17 (2017), 425. In the paper, the last convolution has no padding.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[int | None, Provided] = None,
        first_kernel: Annotated[int, AtLeast(1)] = 64,
        first_stride: Annotated[int, AtLeast(1)] = 16,
        hidden: Annotated[int, AtLeast(1)] = 100,
        dropout: Annotated[float, Between(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        self.shape = (require_channels(input_shape, SIGNAL), input_shape[1])
        widths = (16, 32, 64, 64, 64)
        padding = (first_kernel - 1) // 2
        self.stem = convolution(self.shape[0], widths[0], first_kernel, stride=first_stride, padding=padding)
        self.blocks = nn.ModuleList(convolution(before, after, 3) for before, after in pairwise(widths))
        length = (self.shape[1] + 2 * padding - first_kernel) // first_stride + 1
        for _ in widths:
            length = max(1, length // 2)
        self.hidden = nn.Sequential(
            nn.Linear(widths[-1] * length, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = head(hidden, num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of signals [batch, channels, time]; ValueError for another shape."""
        check_inputs(inputs, self.shape[0], SIGNAL)
        if inputs.shape[-1] != self.shape[1]:
            raise ValueError(f"the model was built for signals of {self.shape[1]} samples, got {inputs.shape[-1]}")
        found = halve_time(self.stem(inputs))
        for block in self.blocks:
            found = halve_time(block(found))
        logits: Tensor = self.head(self.hidden(found.flatten(1)))
        return logits
