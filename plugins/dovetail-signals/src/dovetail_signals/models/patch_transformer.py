"""A transformer on patches of a signal."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import SIGNAL, check_inputs, head, require_channels, require_positive


class PatchTransformer(nn.Module):
    """Classify signals by a transformer encoder on patches, whose mean token goes to the head.

    Args:
        input_shape: [channels, time] of a sample; the run provides it.
        num_classes: number of classes; the run provides it. The output is [batch, num_classes].
        num_outputs: number of values to predict in a regression, which replaces classes; the run provides it.
        patch_size: length of a patch, in samples; a remainder at the end is ignored.
        stride: samples from one patch to the next; ``patch_size`` by default.
        width: size of a token.
        depth: number of layers.
        heads: number of attention heads; must divide ``width``.
        mlp_ratio: hidden size of the feed-forward block, as a multiple of ``width``.
        dropout: dropout probability of every layer.

    Raises:
        ValueError: samples are not signals, a signal is shorter than a patch, a size is below 1, or ``heads`` does
            not divide ``width``.

    Source:
        Dosovitskiy et al., An image is worth 16x16 words (ICLR 2021); for time series: Nie et al., A time series is
        worth 64 words (ICLR 2023). Pre-norm: Xiong et al. (ICML 2020).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[int | None, Provided] = None,
        patch_size: Annotated[int, AtLeast(1)] = 64,
        stride: Annotated[int | None, AtLeast(1)] = None,
        width: Annotated[int, AtLeast(1)] = 64,
        depth: Annotated[int, AtLeast(1)] = 3,
        heads: Annotated[int, AtLeast(1)] = 4,
        mlp_ratio: Annotated[int, AtLeast(1)] = 2,
        dropout: Annotated[float, Between(0, 1)] = 0.1,
    ) -> None:
        super().__init__()
        self.channels = require_channels(input_shape, SIGNAL)
        self.patch_size, self.stride = patch_size, stride or patch_size
        require_positive(patch_size=patch_size, width=width, depth=depth, heads=heads, stride=self.stride)
        if input_shape[1] < patch_size:
            raise ValueError(f"patch_size = {patch_size} is longer than the signals, {input_shape[1]}")
        if width % heads:
            raise ValueError(f"heads = {heads} must divide width = {width}")
        self.count = (input_shape[1] - patch_size) // self.stride + 1
        self.embedding = nn.Linear(self.channels * patch_size, width)
        self.place = nn.Parameter(torch.randn(self.count, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, mlp_ratio * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = head(width, num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of signals [batch, channels, time]; ValueError for another shape."""
        check_inputs(inputs, self.channels, SIGNAL)
        patches = inputs.unfold(-1, self.patch_size, self.stride).transpose(1, 2).flatten(2)
        if patches.shape[1] != self.count:
            raise ValueError(f"the model was built for {self.count} patches, got {patches.shape[1]}")
        tokens = self.layers(self.embedding(patches) + self.place)
        logits: Tensor = self.head(tokens.mean(1))
        return logits
