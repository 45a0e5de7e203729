"""Augmentation that imitates other machines and loads: random filters and speed perturbation."""

from __future__ import annotations

from typing import Annotated, Final, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch
from dovetail.random import Draws
from dovetail_signals.augment.draws import draws_or_fresh
from dovetail_signals.resampling import sinc_resample
from dovetail_signals.tfr import require_signals

_MAX_GAIN: Final = 60.0  # dB; larger gains are outliers of the normal distribution


def random_filter(signals: Tensor, std_db: float = 6.0, knots: int = 8, *, draws: Draws | None = None) -> Tensor:
    """Filter signals at random, with a gain that varies smoothly with frequency.

    Args:
        signals: [N, channels, time]; every channel of every sample has its own filter.
        std_db: standard deviation of the gain, in decibels.
        knots: number of frequencies, from 0 to half the sampling rate, at which a gain is drawn; the gain is linear
            between them.
        draws: random numbers of the batch's samples; from torch's global generator if None.
    """
    own = draws_or_fresh(draws, signals)
    number, channels, length = signals.shape
    drawn = (std_db * own.normal("gains", (channels, knots))).clamp(-_MAX_GAIN, _MAX_GAIN)
    gains = torch.nn.functional.interpolate(drawn, length // 2 + 1, mode="linear", align_corners=True)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(signals) * (10 ** (gains / 20)).to(signals.dtype), n=length)
    return filtered.reshape(number, channels, length)


def speed_perturbation(
    signals: Tensor, speed_range: tuple[float, float] = (0.97, 1.03), *, draws: Draws | None = None
) -> Tensor:
    """Play each signal at a random speed, which scales all of its frequencies.

    Args:
        signals: [N, channels, time]; the length does not change, so a faster signal is continued from its beginning.
        speed_range: lowest and highest speed relative to the original, above 0.
        draws: random numbers of the batch's samples; from torch's global generator if None.

    Source:
        Ko et al., Audio augmentation for speech recognition (Interspeech 2015).
    """
    low, high = speed_range
    own = draws_or_fresh(draws, signals)
    speeds = low + (high - low) * own.uniform("speed")
    length = signals.shape[-1]
    longer = torch.cat([signals, signals[..., : max(0, min(length, round(length * (high - 1)) + 1))]], dim=-1)
    return sinc_resample(longer, speeds, length)


@final
class RandomFilter:
    """Filter each signal at random, with a gain that varies smoothly with frequency.

    The transfer path from a fault to a sensor depends on the machine, its load and the place of the sensor. Random
    filters teach a network to rely on where peaks are rather than on their height.

    Args:
        std_db: standard deviation of the gain, in decibels.
        knots: number of frequencies, from 0 to half the sampling rate, at which a gain is drawn.
    """

    def __init__(self, *, std_db: Annotated[float, AtLeast(0)] = 6.0, knots: Annotated[int, AtLeast(2)] = 8) -> None:
        self._std, self._knots = std_db, knots

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with its signals filtered; ValueError if its inputs are not signals."""
        return {**batch, "inputs": random_filter(require_signals(batch), self._std, self._knots, draws=draws)}


@final
class SpeedPerturbation:
    """Play each signal at a random speed, which scales all of its frequencies.

    Args:
        speed_range: lowest and highest speed relative to the original.

    Raises:
        ValueError: not 0 < lowest ≤ highest ≤ 2.

    Source:
        Ko et al., Audio augmentation for speech recognition (Interspeech 2015).
    """

    def __init__(self, *, speed_range: tuple[float, float] = (0.97, 1.03)) -> None:
        low, high = speed_range
        if not 0 < low <= high <= 2:  # noqa: PLR2004 (above 2 the signal is too short to continue from its beginning)
            raise ValueError(f"speed_range: needs 0 < lowest ≤ highest ≤ 2, got {low:g} and {high:g}")
        self._range = (low, high)

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with its signals at random speeds; ValueError if its inputs are not signals."""
        return {**batch, "inputs": speed_perturbation(require_signals(batch), self._range, draws=draws)}
