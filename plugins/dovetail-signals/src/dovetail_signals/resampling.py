"""Signals read between their samples, band-limited: at a speed of one's own, or at even steps of the shaft's angle."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Final, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, MoreThan, Run
from dovetail.random import Draws
from dovetail_signals.sample_rate import alert_on_nested_sample_rates
from dovetail_signals.tfr import require_signals

_LOBES: Final = 8  # zero crossings of the sinc on each side: a tone up to 0.7 Nyquist is off by less than 0.005


def sinc_resample(signals: Tensor, steps: Tensor, length: int) -> Tensor:
    """Return signals read at the places 0, step, 2 step, …, by a windowed sinc; beyond their ends they are 0.

    A step of more than 1 would fold high frequencies over, so what lies above half of the new rate is taken out first.

    Args:
        signals: [N, channels, time].
        steps: [N], each more than 0, in samples.
        length: how many values to read.

    Returns:
        [N, channels, length].

    Source:
        Smith and Gossett, A flexible sampling-rate conversion method (ICASSP 1984), with a Hann window.
    """
    time = signals.shape[-1]
    # Places in double precision: in single, 100,000 samples away from 0, one would be off by a hundredth of a sample.
    places = steps.double()[:, None] * torch.arange(length, device=signals.device)
    base = places.floor()
    fraction = (places - base).to(signals.dtype)
    cutoff = steps.to(signals.dtype).clamp_min(1).reciprocal()[:, None]
    reach = math.ceil(_LOBES * max(1.0, float(steps.max()))) if len(steps) else 0
    found = signals.new_zeros(*signals.shape[:2], length)
    for tap in range(1 - reach, reach + 1):
        distance = cutoff * (fraction - tap)
        window = torch.cos(distance.clamp(-_LOBES, _LOBES) * (math.pi / (2 * _LOBES))).square()
        at = base.long() + tap
        weight = cutoff * torch.sinc(distance) * window * ((at >= 0) & (at < time))
        chosen = at.clamp(0, time - 1)[:, None].expand(-1, signals.shape[1], -1)
        found = found + weight[:, None] * signals.gather(-1, chosen)
    return found


def resample_by_angle(
    signals: Tensor, rpm: Tensor, *, sample_rate: float, samples_per_turn: int, length: int
) -> Tensor:
    """Return signals at even steps of the shaft's angle, its speed taken as constant: computed order tracking.

    What happens so many times a turn happens at one place of the spectrum, whatever the speed and the sampling rate:
    order k lies at k / samples_per_turn of the new rate.

    Args:
        signals: [N, channels, time].
        rpm: [N] turns of the shaft a minute.
        sample_rate: in Hz.
        samples_per_turn: values to a turn, which show orders up to half as many.
        length: values of the result.

    Returns:
        [N, channels, length].

    Raises:
        ValueError: a speed is not positive, or a signal has too few turns.

    Source:
        Fyfe and Munck, Analysis of computed order tracking, Mechanical Systems and Signal Processing 11 (1997),
        187–205.
    """
    if not bool((rpm > 0).all()):
        raise ValueError(f"rpm must be more than 0, got {float(rpm.min()):g}")
    steps = 60 * sample_rate / (samples_per_turn * rpm.double())
    needed = (length - 1) * float(steps.max()) if len(steps) else 0.0
    if needed > signals.shape[-1] - 1:
        raise ValueError(
            f"{length} values at {samples_per_turn} a turn and {float(rpm.min()):g} rpm take {math.ceil(needed) + 1} "
            f"samples, the signals have {signals.shape[-1]}: make the window longer, or length shorter"
        )
    return sinc_resample(signals, steps, length)


@final
class AngularResampling:
    """Signals at even steps of the shaft's angle, so that what happens so many times a turn stays where it is.

    Every transform after this one and every loss takes ``samples_per_turn`` for the sampling rate, and orders for Hz.

    The speed may be of more than the shaft: with ``elements · rpm / 2`` of a rolling bearing, which is the mean of how
    often elements pass over the outer and the inner race, the faults of the races lie at 1 - r and 1 + r, r being the
    ratio of the diameters of element and pitch circle (for a contact angle of 0): nearly alike in all bearings.

    Args:
        sample_rate: of the signals, in Hz.
        samples_per_turn: values to a turn, which show orders up to half as many.
        length: values of the result; the slowest shaft must turn ``length / samples_per_turn`` times in a signal.
        speed: which of ``meta`` is the speed, in turns a minute.

    Source:
        Fyfe and Munck, Analysis of computed order tracking, Mechanical Systems and Signal Processing 11 (1997),
        187–205.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(
        self,
        *,
        sample_rate: Annotated[float, MoreThan(0)],
        samples_per_turn: Annotated[int, AtLeast(2)],
        length: Annotated[int, AtLeast(2)],
        speed: str = "rpm",
    ) -> None:
        self.sample_rate, self.samples_per_turn = sample_rate, samples_per_turn
        self._length, self._speed = length, speed

    def dovetail_run_start(self, run: Run) -> None:
        """Say so where the recordings have another sampling rate."""
        alert_on_nested_sample_rates(run, self)

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:  # noqa: ARG002 (the form of every transform)
        """Return the batch resampled; ValueError where its inputs are no signals, have no speed, or are too short."""
        signals = require_signals(batch)
        rpm: Any = batch.get("meta", {}).get(self._speed)
        if not isinstance(rpm, Tensor) or rpm.shape != signals.shape[:1]:
            raise ValueError(
                f'needs the speed of each signal\'s shaft in meta.{self._speed}: data.meta = ["{self._speed}"] has it'
            )
        found = resample_by_angle(
            signals,
            rpm.to(signals.device),
            sample_rate=self.sample_rate,
            samples_per_turn=self.samples_per_turn,
            length=self._length,
        )
        return {**batch, "inputs": found}
