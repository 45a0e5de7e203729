"""Augmentation by what differs between machines and loads: speed, and the way from the fault to the sensor."""

from __future__ import annotations

from typing import Annotated, Final, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch
from dovetail.random import Draws
from dovetail_signals.augment.draws import draws_or_fresh
from dovetail_signals.resampling import sinc_resample
from dovetail_signals.tfr import require_signals

_LOUDEST: Final = 60.0  # dB: a gain drawn beyond is drawn by mistake


def random_filter(signals: Tensor, std_db: float = 6.0, knots: int = 8, *, draws: Draws | None = None) -> Tensor:
    """Return signals through filters drawn at random: a gain that varies smoothly with frequency.

    Args:
        signals: [N, channels, time]; every channel of every sample gets a filter of its own.
        std_db: standard deviation of the gain, in decibels.
        knots: frequencies from 0 to half of the sampling rate at which a gain is drawn; in between it is linear.
        draws: of the batch's samples.
    """
    own = draws_or_fresh(draws, signals)
    number, channels, length = signals.shape
    drawn = (std_db * own.normal("gains", (channels, knots))).clamp(-_LOUDEST, _LOUDEST)
    gains = torch.nn.functional.interpolate(drawn, length // 2 + 1, mode="linear", align_corners=True)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(signals) * (10 ** (gains / 20)).to(signals.dtype), n=length)
    return filtered.reshape(number, channels, length)


def speed_perturbation(
    signals: Tensor, speed_range: tuple[float, float] = (0.97, 1.03), *, draws: Draws | None = None
) -> Tensor:
    """Return signals played at another speed, each at its own: all of its frequencies move together.

    Args:
        signals: [N, channels, time]; the length stays, so at a higher speed the end is filled with the beginning.
        speed_range: the lowest and the highest speed, more than 0.
        draws: of the batch's samples.

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
    """Sends each signal through a filter drawn at random: its gain varies smoothly with frequency.

    Between a fault and a sensor lies a machine, which rings differently at another load, and differently again where
    the sensor sits elsewhere. What is left to learn from is where peaks are, less how high.

    Args:
        std_db: standard deviation of the gain, in decibels.
        knots: frequencies at which a gain is drawn, from 0 to half of the sampling rate.
    """

    def __init__(self, *, std_db: Annotated[float, AtLeast(0)] = 6.0, knots: Annotated[int, AtLeast(2)] = 8) -> None:
        self._std, self._knots = std_db, knots

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with its signals filtered; ValueError where its inputs are no signals."""
        return {**batch, "inputs": random_filter(require_signals(batch), self._std, self._knots, draws=draws)}


@final
class SpeedPerturbation:
    """Plays each signal at another speed, so that all of its frequencies move together.

    Args:
        speed_range: the lowest and the highest speed, as shares of the true one.

    Raises:
        ValueError: the speeds do not rise from more than 0 to at most 2.

    Source:
        Ko et al., Audio augmentation for speech recognition (Interspeech 2015).
    """

    def __init__(self, *, speed_range: tuple[float, float] = (0.97, 1.03)) -> None:
        low, high = speed_range
        if not 0 < low <= high <= 2:  # noqa: PLR2004 (an octave: beyond, the beginning would not fill the end)
            raise ValueError(f"speed_range: needs 0 < lowest ≤ highest ≤ 2, got {low:g} and {high:g}")
        self._range = (low, high)

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch at other speeds; ValueError where its inputs are no signals."""
        return {**batch, "inputs": speed_perturbation(require_signals(batch), self._range, draws=draws)}
