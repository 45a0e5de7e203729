"""A convolutional network for spectrograms, and the fusion of several representations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import (
    SIGNAL,
    SPECTROGRAM,
    check_inputs,
    convolution,
    global_mean,
    halve_time,
    head,
    require_channels,
    require_positive,
    weighted_mean,
    with_coordinate_channel,
)


class Features2D(nn.Module):
    """Pairs of 3 × 3 convolutions with max-pooling by 2, then the mean: [N, C, F, T] → [N, features]."""

    def __init__(self, before: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = before
        self.blocks = nn.ModuleList()
        before += 1  # the frequency's place
        for after in channels:
            self.blocks.append(nn.Sequential(*_convolution(before, after), *_convolution(after, after)))
            before = after

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of spectrograms."""
        check_inputs(inputs, self.channels, SPECTROGRAM)
        found = with_coordinate_channel(inputs, -2)
        for block in self.blocks:
            found = block(found)
            if min(found.shape[-2:]) > 1:
                found = nn.functional.max_pool2d(found, 2)
        return global_mean(found, 2)


class Features1D(nn.Module):
    """Convolutions over frequency with max-pooling by 2, then the mean: [N, C, F] → [N, features]."""

    def __init__(self, before: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = before
        self.blocks = nn.ModuleList()
        before += 1  # the frequency's place
        for after in channels:
            self.blocks.append(convolution(before, after, 7))
            before = after

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features of spectra."""
        check_inputs(inputs, self.channels, SIGNAL)
        found = with_coordinate_channel(inputs, -1)
        for block in self.blocks:
            found = halve_time(block(found))
        return global_mean(found, 1)


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


class SpectrogramCNN(nn.Module):
    """Classify spectrograms of any size: pairs of small convolutions over frequency and time.

    Args:
        input_shape: [channels, frequencies, times] of a sample; the run provides it.
        num_classes: number of classes; the run provides it. The output is [batch, num_classes].
        num_outputs: number of values to predict in a regression, which replaces classes; the run provides it.
        channels: output channels of each pair, each with max-pooling by 2 in both dimensions.
        dropout: probability of dropping a pooled feature in training.

    Raises:
        ValueError: samples are not spectrograms, or a size is below 1.

    Source:
        Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition (ICLR 2015); for
        spectrograms: Hershey et al., CNN architectures for large-scale audio classification (ICASSP 2017).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[int | None, Provided] = None,
        channels: Sequence[Annotated[int, AtLeast(1)]] = (16, 32, 64),
        dropout: Annotated[float, Between(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        require_positive(channels=min(channels, default=0))
        self.features = Features2D(require_channels(input_shape, SPECTROGRAM), channels)
        self.dropout = nn.Dropout(dropout)
        self.head = head(channels[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of [batch, channels, frequencies, times]; ValueError for other inputs."""
        logits: Tensor = self.head(self.dropout(self.features(inputs)))
        return logits


class MultiTFRFusion(nn.Module):
    """Classify by one network for each representation of `signals.multi_tfr`; logits are their weighted mean.

    Args:
        spectrograms: names of the representations [channels, frequencies, times].
        spectra: names of the representations [channels, frequencies].
        num_classes: number of classes; the run provides it. The output is [batch, num_classes].
        num_outputs: number of values to predict in a regression, which replaces classes; the run provides it.
        in_channels: channels of the signals.
        channels: output channels of each stage, for every network.
        tfr_weights: weight of each representation; 1 by default.
        dropout: probability of dropping a pooled feature in training.

    Raises:
        ValueError: no representation is named, one is named twice, a size is below 1, a weight is negative, all are
            0, or a weight has an unknown name.
    """

    def __init__(
        self,
        *,
        spectrograms: Sequence[str] = (),
        spectra: Sequence[str] = (),
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[int | None, Provided] = None,
        in_channels: Annotated[int, AtLeast(1)] = 1,
        channels: Sequence[Annotated[int, AtLeast(1)]] = (16, 32, 64),
        tfr_weights: Mapping[str, Annotated[float, AtLeast(0)]] | None = None,
        dropout: Annotated[float, Between(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        names, given = [*spectrograms, *spectra], dict(tfr_weights or {})
        require_positive(in_channels=in_channels, channels=min(channels, default=0))
        if not names or len(set(names)) < len(names):
            raise ValueError("spectrograms and spectra must name at least one representation, and each only once")
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(f"tfr_weights: unknown representation '{unknown[0]}'; use {', '.join(names)}")
        self.weights = {name: float(given.get(name, 1.0)) for name in names}
        if min(self.weights.values()) < 0 or not sum(self.weights.values()):
            raise ValueError("tfr_weights must be at least 0, and not all 0")
        self.features = nn.ModuleDict(
            {name: (Features2D if name in spectrograms else Features1D)(in_channels, channels) for name in names}
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: head(channels[-1], num_classes, num_outputs) for name in names})

    def forward(self, **representations: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` [batch, classes], and the logits of each representation as ``logits_NAME``.

        Raises:
            ValueError: the representations differ from those that were named.
        """
        if representations.keys() != self.weights.keys():
            raise ValueError(f"needs the representations {', '.join(self.weights)}, got {', '.join(representations)}")
        found = {
            name: self.heads[name](self.dropout(self.features[name](values)))
            for name, values in representations.items()
        }
        logits = weighted_mean([found[name] for name in self.weights], list(self.weights.values()))
        return {"logits": logits, **{f"logits_{name}": values for name, values in found.items()}}
