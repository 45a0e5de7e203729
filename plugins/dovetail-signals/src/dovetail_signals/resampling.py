"""Band-limited resampling of each signal at its own rate, and order tracking by the shaft's angle."""

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
    """Return signals interpolated at 0, step, 2 step, …, by a windowed sinc; they are 0 beyond their ends.

    For a step above 1, a low-pass at half the new rate prevents aliasing.

    Args:
        signals: [N, channels, time].
        steps: [N], each above 0, in samples.
        length: number of samples of the result.

    Returns:
        [N, channels, length].

    Source:
        Smith and Gossett, A flexible sampling-rate conversion method (ICASSP 1984), with a Hann window.
    """
    time = signals.shape[-1]
    # Double precision: in single, a position 100,000 samples from 0 would be off by a hundredth of a sample.
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
    """Return signals at equal steps of the shaft's angle, assuming constant speed: computed order tracking.

    An event that repeats k times per revolution shows at order k, which is k / samples_per_turn of the new rate, at any
    speed and sampling rate.

    Args:
        signals: [N, channels, time].
        rpm: [N], revolutions of the shaft per minute.
        sample_rate: in Hz.
        samples_per_turn: samples per revolution; orders up to half of it can be seen.
        length: number of samples of the result.

    Returns:
        [N, channels, length].

    Raises:
        ValueError: a speed is not positive, or a signal has too few revolutions.

    Source:
        Fyfe and Munck, Analysis of computed order tracking, Mechanical Systems and Signal Processing 11 (1997),
        187–205.
    """
    if not bool((rpm > 0).all()):
        raise ValueError(f"rpm must be above 0, got {float(rpm.min()):g}")
    steps = 60 * sample_rate / (samples_per_turn * rpm.double())
    needed = (length - 1) * float(steps.max()) if len(steps) else 0.0
    if needed > signals.shape[-1] - 1:
        raise ValueError(
            f"length = {length} at samples_per_turn = {samples_per_turn} and {float(rpm.min()):g} rpm needs "
            f"{math.ceil(needed) + 1} samples, but the signals have {signals.shape[-1]}: use longer windows, or reduce "
            "length"
        )
    return sinc_resample(signals, steps, length)


@final
class AngularResampling:
    """Resample signals at equal steps of the shaft's angle, so that frequencies become orders.

    For every transform after this one and for every loss, ``samples_per_turn`` is the sampling rate and orders take the
    place of Hz.

    The speed need not be the shaft's. With ``elements · rpm / 2`` of a rolling bearing, the mean rate at which elements
    pass the outer and the inner race, faults of the races show at 1 - r and 1 + r, where r is the ratio of element to
    pitch diameter (for a contact angle of 0). These orders are nearly the same in all bearings.

    Args:
        sample_rate: of the signals, in Hz.
        samples_per_turn: samples per revolution; orders up to half of it can be seen.
        length: number of samples of the result; every signal must hold ``length / samples_per_turn`` revolutions.
        speed: the key of ``meta`` with the speed, in revolutions per minute.

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
        """Raise an alert if ``sample_rate`` differs from the recordings'."""
        alert_on_nested_sample_rates(run, self)

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:  # noqa: ARG002 (every transform takes it)
        """Return the batch resampled.

        Raises:
            ValueError: inputs are not signals, ``meta`` lacks the speed, or a signal has too few revolutions.
        """
        signals = require_signals(batch)
        rpm: Any = batch.get("meta", {}).get(self._speed)
        if not isinstance(rpm, Tensor) or rpm.shape != signals.shape[:1]:
            raise ValueError(
                f'needs the shaft speed of each signal in meta.{self._speed}; set data.meta = ["{self._speed}"]'
            )
        found = resample_by_angle(
            signals,
            rpm.to(signals.device),
            sample_rate=self.sample_rate,
            samples_per_turn=self.samples_per_turn,
            length=self._length,
        )
        return {**batch, "inputs": found}
