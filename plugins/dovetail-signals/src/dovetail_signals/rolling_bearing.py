"""Simulated vibration of rolling-element bearings with faults."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dovetail_signals.geometry import BearingGeometry

Floats = npt.NDArray[np.float64]
RollingFault = Literal["healthy", "outer_race", "inner_race", "ball", "cage"]
ROLLING_FAULTS: Final[tuple[RollingFault, ...]] = ("healthy", "outer_race", "inner_race", "ball", "cage")

_LOAD_EXPONENT: Final = 1.5  # of a point contact between ball and race, after Hertz
_DECAY: Final = 8  # time constants after which the ringing of an impact is cut off
_HARMONICS: Final = (1.0, 0.5, 0.25)  # relative amplitudes of the shaft's first three harmonics


def rolling_vibration(
    fault: RollingFault,
    *,
    geometry: BearingGeometry,
    shaft_hz: float,
    sample_rate: float,
    length: int,
    random: np.random.Generator,
    severity: float = 1.0,
    slip: float = 0.01,
    resonance_hz: float = 3000.0,
    damping: float = 0.05,
    load_zone: float = 0.5,
    shaft_level: float = 0.2,
    snr_db: float = 10.0,
) -> Floats:
    """Return the acceleration [length] that a sensor on the housing measures, in arbitrary units.

    Each time a rolling element meets the fault, the impact excites a resonance of the structure. Impacts come at the
    fault's frequency, with jitter from slip. Their strength follows the load at the fault. The load zone stands still:
    a fault of the inner race passes it once per revolution of the shaft, a fault of a ball or of the cage once per
    revolution of the cage, and a fault of the outer race does not move.

    Args:
        fault: the damaged part; ``healthy`` gives only the shaft's harmonics and noise.
        geometry: of the bearing.
        shaft_hz: revolutions of the shaft per second.
        sample_rate: in Hz.
        length: number of samples.
        random: draws the phases, the slip and the noise.
        severity: strength of the impacts, above 0.
        slip: relative standard deviation of the time between impacts; 0.01 to 0.02 in practice.
        resonance_hz: of the structure, below half the sampling rate.
        damping: damping ratio of the resonance, 0 to 1.
        load_zone: load-distribution factor ε; 0.5 without clearance, where half of the bearing carries load.
        shaft_level: amplitude of the shaft's first harmonic; the second has half of it, the third a quarter.
        snr_db: signal-to-noise ratio of the added white noise, in dB.

    Raises:
        ValueError: the resonance is not below half the sampling rate.

    Source:
        McFadden and Smith, Model for the vibration produced by a single point defect in a rolling element bearing,
        Journal of Sound and Vibration 96 (1984), 69–82; slip as in Antoni and Randall, A stochastic model for
        simulation and diagnostics of rolling element bearings with localized faults, Journal of Vibration and
        Acoustics 125 (2003), 282–289; load distribution as in Harris, Rolling Bearing Analysis (4th ed.), chapter 7.
    """
    if resonance_hz >= sample_rate / 2:
        raise ValueError(f"resonance_hz = {resonance_hz:g} needs a sample_rate above {2 * resonance_hz:g}")
    time = np.arange(length) / sample_rate
    phases = random.uniform(0, 2 * np.pi, len(_HARMONICS))
    vibration = np.zeros(length)
    for order, (relative, phase) in enumerate(zip(_HARMONICS, phases, strict=True), start=1):
        vibration += shaft_level * relative * np.sin(2 * np.pi * order * shaft_hz * time + phase)
    if fault != "healthy":
        orders = geometry.orders()
        # A spot on a ball strikes both races in one spin.
        impact_orders = {
            "outer_race": orders.bpfo,
            "inner_race": orders.bpfi,
            "ball": 2 * orders.bsf,
            "cage": orders.ftf,
        }
        revolutions = {"outer_race": 0.0, "inner_race": 1.0, "ball": orders.ftf, "cage": orders.ftf}
        times = _impact_times(impact_orders[fault] * shaft_hz, length / sample_rate, slip, random)
        strength = severity * _load(revolutions[fault] * shaft_hz * times, load_zone, random)
        omega = 2 * np.pi * resonance_hz / sample_rate
        vibration += _ringing(times * sample_rate, strength, length, omega, damping)
    return add_noise(vibration, snr_db, random)


def add_noise(signal: Floats, snr_db: float, random: np.random.Generator) -> Floats:
    """Return the signal with white noise added, whose power is ``snr_db`` below the signal's."""
    power = float(np.mean(signal**2)) / 10 ** (snr_db / 10)
    noisy: Floats = signal + np.sqrt(power) * random.standard_normal(len(signal))
    return noisy


def _impact_times(rate: float, seconds: float, slip: float, random: np.random.Generator) -> Floats:
    period = 1 / rate
    number = int(seconds / period * (1 + 5 * slip)) + 3
    intervals = period * np.maximum(0.1, 1 + slip * random.standard_normal(number))
    times = np.cumsum(intervals) - period * random.uniform(0, 1)
    return times[(times >= 0) & (times < seconds)]


def _load(turned: Floats, load_zone: float, random: np.random.Generator) -> Floats:
    """Return the relative load on a fault after ``turned`` revolutions; a fault that stands still carries all of it."""
    start = random.uniform(0, 2 * np.pi) if turned.any() else 0.0
    inside = np.clip(1 - (1 - np.cos(2 * np.pi * turned + start)) / (2 * load_zone), 0, None)
    # Outside the load zone a fault is faint, not silent.
    return np.asarray(0.05 + 0.95 * inside**_LOAD_EXPONENT)


def _ringing(places: Floats, strength: Floats, length: int, omega: float, damping: float) -> Floats:
    """Return the sum of a decaying sine for each impact, at fractional sample positions ``places``."""
    width = max(2, int(_DECAY / (damping * omega)))
    rows = np.ceil(places).astype(np.int64)[:, None] + np.arange(width)
    since = rows - places[:, None]
    rung = np.exp(-damping * omega * since) * np.sin(omega * np.sqrt(1 - damping**2) * since)
    inside = rows < length
    found = np.zeros(length)
    np.add.at(found, rows[inside], (strength[:, None] * rung)[inside])
    return found
