"""The picture of envelope spectra."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail_signals.simulated import simulated_rolling


def test_the_lines_meet_the_peaks():
    """In simulated recordings without slip, the spectrum has its maximum at the fault's line."""
    from dovetail_signals.pictures.envelope import EnvelopePicture

    samples = simulated_rolling(0, faults=["outer_race", "inner_race"], recordings=2, slip=0.0, snr_db=(10.0, 10.0))
    part = EnvelopePicture(band=(2000.0, 5000.0), multiples=2)
    for row, signal in samples.contiguous_segments():
        orders, values = part.spectrum(signal[0], samples.sample_rate, samples.column("shaft_hz")[row])
        fault = samples.column("fault")[row]
        # An inner race's frequency has sidebands at distances of the shaft's frequency.
        expected, near = (3.5848, 2.0) if fault == "outer_race" else (5.4152, 0.5)
        close = np.abs(orders - expected) < near
        assert orders[close][values[close].argmax()] == pytest.approx(expected, abs=0.05)
