"""A transformer on patches of a signal."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import SIGNAL, check, head, require_channels, sizes


class PatchTransformer(nn.Module):
    """Cuts a signal into patches, makes each a token, and lets them attend to one another; the mean is classified.

    Args:
        input_shape: [channels, time] of a sample; the dataset provides it.
        num_classes: classes to tell apart; the dataset provides it. Output [batch, num_classes].
        num_outputs: predict this many numbers instead; the dataset of a regression provides it.
        patch_size: length of a patch, in steps; what is left at the end is not seen.
        stride: steps from one patch to the next; a patch by default.
        width: of a token.
        depth: layers.
        heads: of attention; they divide the width.
        mlp_ratio: hidden size of a layer's feed-forward part, in widths.
        dropout: in every layer, while training.

    Raises:
        ValueError: samples are no signals, a signal is shorter than a patch, a size is below 1, or the heads do not
            divide the width.

    Source:
        Dosovitskiy et al., An image is worth 16x16 words (ICLR 2021); for time series: Nie et al., A time series is
        worth 64 words (ICLR 2023). Norms come before the layers: Xiong et al. (ICML 2020).
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
        sizes(patch_size=patch_size, width=width, depth=depth, heads=heads, stride=self.stride)
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
        """Return logits [batch, classes] of signals [batch, channels, time]; ValueError where they do not fit."""
        check(inputs, self.channels, SIGNAL)
        patches = inputs.unfold(-1, self.patch_size, self.stride).transpose(1, 2).flatten(2)
        if patches.shape[1] != self.count:
            raise ValueError(f"was built for {self.count} patches, got {patches.shape[1]}")
        tokens = self.layers(self.embedding(patches) + self.place)
        logits: Tensor = self.head(tokens.mean(1))
        return logits
