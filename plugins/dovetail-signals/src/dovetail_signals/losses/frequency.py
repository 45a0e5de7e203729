"""Frequency consistency: a class is unlikely where the signal does not carry its fault frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from dovetail import AtLeast, Batch, Between, LossResult, ModelOutput, MoreThan, Run
from dovetail.ops import Bands, bands_around, frequency_consistency, frequency_penalties
from dovetail_signals.losses.controls import Control, apply_control
from dovetail_signals.losses.inputs import read_logits, require_meta
from dovetail_signals.sample_rate import alert_on_sample_rate

_SIGNAL = (2, 3)  # dimensions of [batch, time] and [batch, channels, time]


class FrequencyConsistencyLoss(nn.Module):
    """The mean over samples of ``Σ_c softmax(logits)_c · penalty_c``.

    ``penalty_c = h_c / (s_c + h_c)``, s_c being the share of the signal's energy in the bands around the frequencies
    that a fault of class c would show, and h_c what a healthy machine has there: 1 where there is nothing, 1/2 where
    there is no more than in a healthy machine, towards 0 where the bands stand out. A class without frequencies is the
    healthy one: it costs 1 less the least penalty of the others.

    Every class counts with its probability, so the gradient reaches the logits: had the likeliest class been picked
    with argmax, it would be zero. It also reaches the signal, where the batch's inputs require one.

    The signal is the batch's inputs ``[batch, time]`` or ``[batch, channels, time]``, or, where the model is fed
    something else, such as a spectrogram, ``meta.signal``.

    Args:
        expected_freqs: frequencies of each class by its number: ``{ "1" = [107.4], "2" = [162.2] }``. A class that is
            not named has none.
        sample_rate: in Hz.
        tolerance: half the width of a band, as a share of its centre; above 0, below 1.
        unit: ``"hz"``, or ``"orders"`` for multiples of the speed of the shaft, read from ``meta``.
        harmonics: 1 for the frequencies alone, 3 for twice and three times them as well.
        bands: further bands of a class from a lower to a higher frequency in Hz: ``{ "1" = [[2500.0, 3500.0]] }``.
        healthy: for each class the share of energy, 0 to 1, that a healthy machine has in its bands; by default that of
            a flat spectrum.
        speed: which of ``meta`` is the speed of the shaft, in turns a minute.
        control: an ablation: ``"scrambled"`` gives classes the frequencies and bands of others, ``"random"`` gives them
            random ones. What is gained with the true ones alone is gained by physics.
        control_seed: of the ablation's random numbers.

    Raises:
        ValueError: a number is out of its range, a class is named by something that is not its number, or the control
            cannot be made.

    Source:
        Fault frequencies: Randall and Antoni, Rolling element bearing diagnostics – a tutorial, Mechanical Systems and
        Signal Processing 25 (2011), equations 1 to 4; `dovetail_signals.geometry` computes them. The penalty is ours.
    """

    def __init__(
        self,
        expected_freqs: Mapping[str, Sequence[float]],
        sample_rate: Annotated[float, MoreThan(0)] = 20480,
        tolerance: Annotated[float, Between(0, 1)] = 0.1,
        *,
        unit: Literal["hz", "orders"] = "hz",
        harmonics: Annotated[int, AtLeast(1)] = 1,
        bands: Mapping[str, Sequence[Sequence[float]]] | None = None,
        healthy: Sequence[float] | None = None,
        speed: str = "rpm",
        control: Control = "none",
        control_seed: int = 0,
    ) -> None:
        super().__init__()
        self.sample_rate, self.tolerance, self.unit, self.harmonics = sample_rate, tolerance, unit, harmonics
        self.expected_freqs, self.fixed = apply_control(
            {_number(name): list(of_class) for name, of_class in expected_freqs.items()},
            {_number(name): [_span(span) for span in of_class] for name, of_class in (bands or {}).items()},
            control,
            control_seed,
            tolerance,
        )
        self.healthy = None if healthy is None else torch.tensor(list(healthy), dtype=torch.float64)
        self.speed = speed
        self._made: dict[tuple[int, torch.device], Bands] = {}
        self.bands(max([0, *self.expected_freqs, *self.fixed]) + 1, torch.device("cpu"))  # what is wrong is said now

    def dovetail_run_start(self, run: Run) -> None:
        """Say so where the recordings have another sampling rate."""
        alert_on_sample_rate(run, self, self.sample_rate)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over samples.

        Args:
            outputs: class scores ``[batch, classes]``.
            batch: signals as above; with bands in orders, the speed of the shaft.

        Raises:
            ValueError: shapes do not fit, the signal or the speed is missing, or a class is named that the model does
                not have.
        """
        logits = read_logits("frequency_consistency", outputs, batch)
        return LossResult(frequency_consistency(logits, self.penalties(logits, batch)), {}, float(len(logits)))

    def penalties(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the penalties ``[batch, classes]``: 0 where a class's bands stand out, 1 where they are empty."""
        signal = _signal(batch, logits)
        bands = self.bands(logits.shape[1], signal.device)
        rpm = None
        if self.unit == "orders":
            rpm = require_meta("frequency_consistency", batch, self.speed, logits, "a band in orders")
        healthy = None if self.healthy is None else self.healthy.to(signal.device)
        return frequency_penalties(signal, bands, sample_rate=self.sample_rate, rpm=rpm, healthy=healthy)

    def bands(self, classes: int, device: torch.device) -> Bands:
        """Return the bands of a model of so many classes, made once for each device.

        Raises:
            ValueError: a class is named that there is not, or a frequency makes no sense.
        """
        if (classes, device) not in self._made:
            named = sorted({*self.expected_freqs, *self.fixed})
            if named and named[-1] >= classes:
                raise ValueError(f"expected_freqs: names class {named[-1]}, the model has 0 to {classes - 1}")
            made = bands_around(
                [list(self.expected_freqs.get(which, ())) for which in range(classes)],
                unit=self.unit,
                harmonics=self.harmonics,
                tolerance=self.tolerance,
                fixed=[list(self.fixed.get(which, ())) for which in range(classes)],
            )
            self._made[classes, device] = made.to(device)
        return self._made[classes, device]


def _number(name: object) -> int:
    """Return a class's number: in TOML a key is a string."""
    text = str(name)
    if not text.isdecimal():
        raise ValueError(f"expected_freqs: classes are named by their numbers, 0, 1, …, not {name!r}")
    return int(text)


def _span(span: Sequence[float]) -> tuple[float, float]:
    if len(span) != len(("low", "high")):
        raise ValueError(f"bands: a band is [low, high] in Hz, not {list(span)}")
    return float(span[0]), float(span[1])


def _signal(batch: Batch, logits: Tensor) -> Tensor:
    found: Any = batch.get("meta", {}).get("signal", batch.get("inputs"))
    if not isinstance(found, Tensor) or found.ndim not in _SIGNAL or not found.is_floating_point():
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            "frequency_consistency: inputs, or meta.signal, must be signals, [batch, time] or [batch, channels, time]; "
            f"got {shape}"
        )
    if len(found) != len(logits):
        raise ValueError(f"frequency_consistency: {len(found)} signals for {len(logits)} outputs")
    return found
