"""A convolutional network for spectrograms, and several of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from torch import Tensor, nn

from dovetail import AtLeast, Between, Provided
from dovetail_signals.models.layers import (
    SIGNAL,
    SPECTROGRAM,
    check,
    convolution,
    global_mean,
    halve_time,
    head,
    require_channels,
    sizes,
    weighted,
    with_coordinate_channel,
)


class Features2D(nn.Module):
    """Pairs of 3 × 3 convolutions, each pair followed by a halving, then the mean: [N, C, F, T] → [N, features]."""

    def __init__(self, before: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = before
        self.blocks = nn.ModuleList()
        before += 1  # the frequency's place
        for after in channels:
            self.blocks.append(nn.Sequential(*_convolution(before, after), *_convolution(after, after)))
            before = after

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features of spectrograms."""
        check(inputs, self.channels, SPECTROGRAM)
        found = with_coordinate_channel(inputs, -2)
        for block in self.blocks:
            found = block(found)
            if min(found.shape[-2:]) > 1:
                found = nn.functional.max_pool2d(found, 2)
        return global_mean(found, 2)


class Features1D(nn.Module):
    """Convolutions over frequency, each followed by a halving, then the mean: [N, C, F] → [N, features]."""

    def __init__(self, before: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = before
        self.blocks = nn.ModuleList()
        before += 1  # the frequency's place
        for after in channels:
            self.blocks.append(convolution(before, after, 7))
            before = after

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features of spectra."""
        check(inputs, self.channels, SIGNAL)
        found = with_coordinate_channel(inputs, -1)
        for block in self.blocks:
            found = halve_time(block(found))
        return global_mean(found, 1)


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


class SpectrogramCNN(nn.Module):
    """Pairs of small convolutions over frequency and time. It takes spectrograms of any size.

    Args:
        input_shape: [channels, frequencies, times] of a sample; the representation provides it.
        num_classes: classes to tell apart; the dataset provides it. Output [batch, num_classes].
        num_outputs: predict this many numbers instead; the dataset of a regression provides it.
        channels: after each pair, each followed by a halving of both dimensions.
        dropout: share of the pooled features set to 0 while training.

    Raises:
        ValueError: samples are no spectrograms, or a size is below 1.

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
        sizes(channels=min(channels, default=0))
        self.features = Features2D(require_channels(input_shape, SPECTROGRAM), channels)
        self.dropout = nn.Dropout(dropout)
        self.head = head(channels[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [batch, classes] of [batch, channels, frequencies, times]; ValueError where they are none."""
        logits: Tensor = self.head(self.dropout(self.features(inputs)))
        return logits


class MultiTFRFusion(nn.Module):
    """One network for each representation of `signals.multi_tfr`, and the weighted mean of what they say.

    Args:
        spectrograms: names of the representations [channels, frequencies, times].
        spectra: names of the representations [channels, frequencies].
        num_classes: classes to tell apart; the dataset provides it. Output [batch, num_classes].
        num_outputs: predict this many numbers instead; the dataset of a regression provides it.
        in_channels: channels of the signals.
        channels: of each network, after each of its stages.
        tfr_weights: how much each counts; 1 where nothing is said.
        dropout: share of the pooled features set to 0 while training.

    Raises:
        ValueError: no representation is named, one is named twice, a size is below 1, or a weight is negative or of
            none.
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
        sizes(in_channels=in_channels, channels=min(channels, default=0))
        if not names or len(set(names)) < len(names):
            raise ValueError("spectrograms and spectra must name at least one representation, and none twice")
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(f"tfr_weights names '{unknown[0]}', which is none of {', '.join(names)}")
        self.weights = {name: float(given.get(name, 1.0)) for name in names}
        if min(self.weights.values()) < 0 or not sum(self.weights.values()):
            raise ValueError("tfr_weights must be at least 0, and not all 0")
        self.features = nn.ModuleDict(
            {name: (Features2D if name in spectrograms else Features1D)(in_channels, channels) for name in names}
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: head(channels[-1], num_classes, num_outputs) for name in names})

    def forward(self, **representations: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` [batch, classes], and those of each representation as ``logits_NAME``.

        Raises:
            ValueError: the representations are not those that were named.
        """
        if representations.keys() != self.weights.keys():
            raise ValueError(f"needs the representations {', '.join(self.weights)}, got {', '.join(representations)}")
        found = {
            name: self.heads[name](self.dropout(self.features[name](values)))
            for name, values in representations.items()
        }
        logits = weighted([found[name] for name in self.weights], list(self.weights.values()))
        return {"logits": logits, **{f"logits_{name}": values for name, values in found.items()}}
