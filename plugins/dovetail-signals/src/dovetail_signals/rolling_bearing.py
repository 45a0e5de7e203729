"""Vibration of a rolling-element bearing with a fault, from its physics."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dovetail_signals.geometry import BearingGeometry

Floats = npt.NDArray[np.float64]
RollingFault = Literal["healthy", "outer_race", "inner_race", "ball", "cage"]
ROLLING_FAULTS: Final[tuple[RollingFault, ...]] = ("healthy", "outer_race", "inner_race", "ball", "cage")

_LOAD_EXPONENT: Final = 1.5  # of a point contact between ball and race, after Hertz
_DECAY: Final = 8  # time constants after which an impact's ringing is over
_HARMONICS: Final = (1.0, 0.5, 0.25)  # of the shaft's first three harmonics: unbalance, misalignment, the rest


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
    """Return the acceleration, in arbitrary units, that a sensor on the housing measures.

    Each time a rolling element meets the fault, an impact rings the structure's resonance. Impacts come at the fault's
    frequency, each a little early or late as elements slip. Their strength follows the load where the fault is:
    the load zone stands still, so a fault of the inner race passes it once a turn of the shaft, one of a ball or
    the cage once a turn of the cage, and one of the outer race stays where it is.

    Args:
        fault: the damaged part; ``healthy`` gives the shaft and noise alone.
        geometry: of the bearing.
        shaft_hz: turns a second.
        sample_rate: in Hz.
        length: number of values.
        random: draws the phases, the slip and the noise.
        severity: strength of the impacts, more than 0.
        slip: standard deviation of the time between impacts, as a share of it; 0.01 to 0.02 in reality.
        resonance_hz: of the structure, below half of the sampling rate.
        damping: ratio of the resonance's damping to the critical, 0 to 1.
        load_zone: load-distribution factor ε, 0.5 for a bearing without clearance: half of it carries load.
        shaft_level: amplitude of the shaft's first harmonic; the second and third have a half and a quarter of it.
        snr_db: power of everything else above that of the white noise, in dB.

    Raises:
        ValueError: the resonance cannot be sampled.

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
    for order, (share, phase) in enumerate(zip(_HARMONICS, phases, strict=True), start=1):
        vibration += shaft_level * share * np.sin(2 * np.pi * order * shaft_hz * time + phase)
    if fault != "healthy":
        orders = geometry.orders()
        # A spot on a ball meets both races in one spin.
        knocks = {"outer_race": orders.bpfo, "inner_race": orders.bpfi, "ball": 2 * orders.bsf, "cage": orders.ftf}
        turns = {"outer_race": 0.0, "inner_race": 1.0, "ball": orders.ftf, "cage": orders.ftf}
        times = _impact_times(knocks[fault] * shaft_hz, length / sample_rate, slip, random)
        strength = severity * _load(turns[fault] * shaft_hz * times, load_zone, random)
        omega = 2 * np.pi * resonance_hz / sample_rate
        vibration += _ringing(times * sample_rate, strength, length, omega, damping)
    return add_noise(vibration, snr_db, random)


def add_noise(signal: Floats, snr_db: float, random: np.random.Generator) -> Floats:
    """Return the signal with white noise whose power is ``snr_db`` below its own."""
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
    """Return the load on a fault that has turned so often from where it began; one that does not turn has it all."""
    start = random.uniform(0, 2 * np.pi) if turned.any() else 0.0
    inside = np.clip(1 - (1 - np.cos(2 * np.pi * turned + start)) / (2 * load_zone), 0, None)
    # A fault is felt outside of the load zone too, though faintly.
    return np.asarray(0.05 + 0.95 * inside**_LOAD_EXPONENT)


def _ringing(places: Floats, strength: Floats, length: int, omega: float, damping: float) -> Floats:
    """Add up a decaying sine for each impact, at ``places`` in samples, which may lie between two of them."""
    width = max(2, int(_DECAY / (damping * omega)))
    rows = np.ceil(places).astype(np.int64)[:, None] + np.arange(width)
    since = rows - places[:, None]
    rung = np.exp(-damping * omega * since) * np.sin(omega * np.sqrt(1 - damping**2) * since)
    inside = rows < length
    found = np.zeros(length)
    np.add.at(found, rows[inside], (strength[:, None] * rung)[inside])
    return found
