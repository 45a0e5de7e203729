"""Frequency consistency: a class is unlikely if the signal lacks its fault frequencies."""

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

    ``penalty_c = h_c / (s_c + h_c)``, where s_c is the fraction of the signal's energy in the bands around the fault
    frequencies of class c, and h_c that of a healthy machine. The penalty is 1 if the bands are empty, 1/2 if they hold
    no more than in a healthy machine, and approaches 0 as they stand out. A class without frequencies is the healthy
    one: its penalty is 1 minus the smallest penalty of the others.

    Every class counts with its probability, so the gradient reaches the logits; picking the likeliest class with argmax
    would give none. The gradient also reaches the signal if the batch's inputs require it.

    The signal is the batch's inputs ``[batch, time]`` or ``[batch, channels, time]``, or ``meta.signal`` if the model
    takes something else, such as a spectrogram.

    Args:
        expected_freqs: fault frequencies of each class, by class index: ``{ "1" = [107.4], "2" = [162.2] }``. A class
            that is not listed has none.
        sample_rate: in Hz.
        tolerance: half the width of a band relative to its centre; above 0, below 1.
        unit: ``"hz"``, or ``"orders"`` for multiples of the shaft's frequency, whose speed is in ``meta``.
        harmonics: number of harmonics: 1 for the frequencies alone, 3 to add twice and three times each.
        bands: additional bands of a class, [low, high] in Hz: ``{ "1" = [[2500.0, 3500.0]] }``.
        healthy: for each class, a healthy machine's fraction of energy in the bands, 0 to 1; by default that of a flat
            spectrum.
        speed: the key of ``meta`` with the shaft's speed, in revolutions per minute.
        control: a control for an ablation: ``"scrambled"`` exchanges frequencies and bands between classes,
            ``"random"`` replaces them by random ones. Only a gain that neither control has is due to the physics.
        control_seed: seed of the control.

    Raises:
        ValueError: a number is out of its range, a key is not a class index, or the control is impossible.

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
        self.bands(
            max([0, *self.expected_freqs, *self.fixed]) + 1, torch.device("cpu")
        )  # raises now what forward would raise

    def dovetail_run_start(self, run: Run) -> None:
        """Raise an alert if ``sample_rate`` differs from the recordings'."""
        alert_on_sample_rate(run, self, self.sample_rate)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over samples.

        Args:
            outputs: logits ``[batch, classes]``.
            batch: signals as above, and the shaft's speed for bands in orders.

        Raises:
            ValueError: shapes do not match, the signal or the speed is missing, or ``expected_freqs`` has a class that
                the model does not have.
        """
        logits = read_logits("frequency_consistency", outputs, batch)
        return LossResult(frequency_consistency(logits, self.penalties(logits, batch)), {}, float(len(logits)))

    def penalties(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the penalties ``[batch, classes]``, from 0 (a class's bands stand out) to 1 (they are empty)."""
        signal = _signal(batch, logits)
        bands = self.bands(logits.shape[1], signal.device)
        rpm = None
        if self.unit == "orders":
            rpm = require_meta("frequency_consistency", batch, self.speed, logits, "a band in orders")
        healthy = None if self.healthy is None else self.healthy.to(signal.device)
        return frequency_penalties(signal, bands, sample_rate=self.sample_rate, rpm=rpm, healthy=healthy)

    def bands(self, classes: int, device: torch.device) -> Bands:
        """Return the bands for a model with ``classes`` classes, computed once for each device.

        Raises:
            ValueError: ``expected_freqs`` has a class that the model does not have, or an invalid frequency.
        """
        if (classes, device) not in self._made:
            named = sorted({*self.expected_freqs, *self.fixed})
            if named and named[-1] >= classes:
                raise ValueError(f"expected_freqs: no class {named[-1]}; the model has classes 0 to {classes - 1}")
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
    """Return the class index of a key, which is a string in TOML."""
    text = str(name)
    if not text.isdecimal():
        raise ValueError(f"expected_freqs: keys must be class indices 0, 1, …, got {name!r}")
    return int(text)


def _span(span: Sequence[float]) -> tuple[float, float]:
    if len(span) != len(("low", "high")):
        raise ValueError(f"bands: a band must be [low, high] in Hz, got {list(span)}")
    return float(span[0]), float(span[1])


def _signal(batch: Batch, logits: Tensor) -> Tensor:
    found: Any = batch.get("meta", {}).get("signal", batch.get("inputs"))
    if not isinstance(found, Tensor) or found.ndim not in _SIGNAL or not found.is_floating_point():
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            "frequency_consistency: inputs or meta.signal must be signals [batch, time] or [batch, channels, time], "
            f"got {shape}"
        )
    if len(found) != len(logits):
        raise ValueError(f"frequency_consistency: {len(found)} signals for {len(logits)} outputs")
    return found
