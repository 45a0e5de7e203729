"""Simulated vibration of journal bearings with faults, and their Sommerfeld number."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dovetail_signals.rolling_bearing import add_noise

Floats = npt.NDArray[np.float64]
JournalFault = Literal["healthy", "unbalance", "misalignment", "oil_whirl", "looseness", "rub"]
JOURNAL_FAULTS: Final[tuple[JournalFault, ...]] = (
    "healthy",
    "unbalance",
    "misalignment",
    "oil_whirl",
    "looseness",
    "rub",
)

#: Amplitude of each order of the shaft's frequency at severity 1, in addition to a healthy machine's.
_ORDERS: Final[dict[JournalFault, dict[float, float]]] = {
    "healthy": {},
    "unbalance": {1.0: 1.0},
    "misalignment": {1.0: 0.4, 2.0: 1.0, 3.0: 0.3},
    "oil_whirl": {},  # its order is random
    "looseness": {0.5: 0.4, 1.0: 0.6, 1.5: 0.3, 2.0: 0.5, 3.0: 0.4, 4.0: 0.3, 5.0: 0.2},
    "rub": {1 / 3: 0.3, 0.5: 0.5, 1.0: 0.4, 1.5: 0.3, 2.0: 0.3},
}
_HEALTHY: Final = {1.0: 0.2, 2.0: 0.05}
_WHIRL: Final = (0.42, 0.48)  # orders of the oil film's circulation
_WANDER: Final = 0.02  # relative amplitude by which a whirl's frequency wanders


def sommerfeld_number(
    *,
    viscosity: float,
    shaft_hz: float,
    load: float,
    diameter: float,
    length: float,
    clearance: float,
) -> float:
    """Return the dimensionless Sommerfeld number S = (R / c)² · μ N L D / W, small for a heavily loaded bearing.

    Args:
        viscosity: dynamic viscosity μ of the oil, Pa·s.
        shaft_hz: revolutions per second, N.
        load: W, in newtons.
        diameter: D of the journal, in metres.
        length: L of the bearing, in metres.
        clearance: radial clearance c, in metres.

    Raises:
        ValueError: a value is not positive.

    Source:
        Hamrock, Schmid and Jacobson, Fundamentals of Fluid Film Lubrication (2nd ed.), chapter 10.
    """
    values = {
        "viscosity": viscosity,
        "shaft_hz": shaft_hz,
        "load": load,
        "diameter": diameter,
        "length": length,
        "clearance": clearance,
    }
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be more than 0, got {value:g}")
    return (diameter / 2 / clearance) ** 2 * viscosity * shaft_hz * length * diameter / load


def journal_vibration(
    fault: JournalFault,
    *,
    shaft_hz: float,
    sample_rate: float,
    length: int,
    random: np.random.Generator,
    severity: float = 1.0,
    snr_db: float = 10.0,
) -> Floats:
    """Return the displacement [length] that a probe at the journal measures, in arbitrary units.

    Unbalance shows at the shaft's frequency, misalignment at twice that, looseness and rub at many harmonics and
    subharmonics. In oil whirl the film itself rotates at 0.42 to 0.48 times the shaft's frequency, with a slight drift.

    Args:
        fault: the fault, or ``healthy``.
        shaft_hz: revolutions of the shaft per second.
        sample_rate: in Hz.
        length: number of samples.
        random: draws the phases, the whirl and the noise.
        severity: amplitude of the fault's orders, above 0.
        snr_db: signal-to-noise ratio of the added white noise, in dB.

    Source:
        Muszynska, Whirl and whip – rotor/bearing stability problems, Journal of Sound and Vibration 110 (1986),
        443–462; the orders of the other faults as in ISO 13373-2 and Ehrich, Handbook of Rotordynamics, chapter 4.
    """
    time = np.arange(length) / sample_rate
    orders = dict(_HEALTHY)
    for order, amplitude in _ORDERS[fault].items():
        orders[order] = orders.get(order, 0.0) + severity * amplitude
    signal = np.zeros(length)
    for order, amplitude in orders.items():
        signal += amplitude * np.sin(2 * np.pi * order * shaft_hz * time + random.uniform(0, 2 * np.pi))
    if fault == "oil_whirl":
        wander = 1 + _WANDER * np.sin(2 * np.pi * random.uniform(0.2, 1.0) * time + random.uniform(0, 2 * np.pi))
        turns = np.cumsum(random.uniform(*_WHIRL) * shaft_hz * wander) / sample_rate
        signal += severity * np.sin(2 * np.pi * turns)
    return add_noise(signal, snr_db, random)
