"""Simulated journal bearings."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail_signals.journal_bearing import journal_vibration, sommerfeld_number


def spectrum(signal, rate):
    """Return frequencies and amplitudes, with the mean removed."""
    window = np.hanning(len(signal))
    return np.fft.rfftfreq(len(signal), 1 / rate), np.abs(np.fft.rfft((signal - signal.mean()) * window))


@pytest.mark.parametrize(
    "fault, order", [("unbalance", 1.0), ("misalignment", 2.0), ("oil_whirl", 0.45), ("looseness", 0.5), ("rub", 1 / 3)]
)
def test_orders_of_a_journal_bearing(fault, order):
    """The characteristic order of each fault is much stronger than in a healthy machine."""

    def at(fault):
        random = np.random.default_rng(1)
        signal = journal_vibration(fault, shaft_hz=40.0, sample_rate=2048, length=20_480, random=random, snr_db=200.0)
        frequencies, amplitudes = spectrum(signal, 2048)
        return amplitudes[np.abs(frequencies / 40 - order) <= 0.04].max()

    assert at(fault) > 3 * at("healthy")


def test_the_sommerfeld_number():
    """It equals a computation by hand, scales with load, and raises for values that are not positive."""
    values = {"viscosity": 0.02, "shaft_hz": 30.0, "load": 1000.0, "diameter": 0.05, "length": 0.04, "clearance": 5e-5}

    assert sommerfeld_number(**values) == pytest.approx(500**2 * 0.02 * 30 * 0.04 * 0.05 / 1000)
    assert sommerfeld_number(**values | {"load": 2000.0}) == pytest.approx(sommerfeld_number(**values) / 2)
    with pytest.raises(ValueError, match="clearance must be more than 0"):
        sommerfeld_number(**values | {"clearance": 0.0})
