"""Simulated rolling-element bearings: their spectra match the physics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, hilbert, sosfiltfilt

from dovetail_signals.geometry import bearing
from dovetail_signals.rolling_bearing import rolling_vibration

RATE, SHAFT = 12_000, 29.0


GEOMETRY = bearing("SKF-6205")


def spectrum(signal, rate):
    """Return frequencies and amplitudes, with the mean removed."""
    window = np.hanning(len(signal))
    return np.fft.rfftfreq(len(signal), 1 / rate), np.abs(np.fft.rfft((signal - signal.mean()) * window))


def envelope_spectrum(signal):
    """Return the spectrum of the envelope around the resonance."""
    band = sosfiltfilt(butter(4, [2000, 4000], "bandpass", fs=RATE, output="sos"), signal)
    return spectrum(np.abs(hilbert(band)), RATE)


def level(spectrum_, hz, width=1.0):
    """Return the highest amplitude near ``hz``, relative to the median below 400 Hz."""
    frequencies, amplitudes = spectrum_
    near = np.abs(frequencies - hz) <= width
    return amplitudes[near].max() / np.median(amplitudes[(frequencies > 2) & (frequencies < 400)])


def rolling(fault, seed=0, **options):
    """Return a recording of ten seconds."""
    return rolling_vibration(
        fault,
        geometry=GEOMETRY,
        shaft_hz=SHAFT,
        sample_rate=RATE,
        length=10 * RATE,
        random=np.random.default_rng(seed),
        **{"slip": 0.002} | options,
    )


@pytest.mark.parametrize("fault", ["outer_race", "inner_race", "ball"])
def test_the_envelope_shows_the_fault(fault):
    """In the envelope spectrum, the fault's own frequency stands out more than any other."""
    found = GEOMETRY.frequencies(SHAFT)
    lines = {"outer_race": found.bpfo, "inner_race": found.bpfi, "ball": 2 * found.bsf}
    shown = envelope_spectrum(rolling(fault))
    levels = {name: level(shown, hz) for name, hz in lines.items()}

    assert max(levels, key=levels.get) == fault
    assert levels[fault] > 10


def test_a_healthy_bearing_shows_no_fault():
    """Its envelope has no line at a fault frequency; its spectrum has the shaft's harmonics."""
    signal = rolling("healthy")
    found = GEOMETRY.frequencies(SHAFT)

    assert all(level(envelope_spectrum(signal), hz) < 6 for hz in (found.bpfo, found.bpfi, 2 * found.bsf))
    assert all(level(spectrum(signal, RATE), order * SHAFT) > 20 for order in (1, 2, 3))


def test_the_load_zone_modulates():
    """A fault of the inner race is modulated by the shaft, one of the outer race is not."""
    bpfi, bpfo = GEOMETRY.frequencies(SHAFT).bpfi, GEOMETRY.frequencies(SHAFT).bpfo
    inner, outer = envelope_spectrum(rolling("inner_race")), envelope_spectrum(rolling("outer_race"))

    assert level(inner, bpfi - SHAFT) > 10
    assert level(outer, bpfo - SHAFT) < 0.2 * level(outer, bpfo)


@pytest.mark.parametrize("snr", [-5.0, 20.0])
def test_the_noise_has_the_given_level(snr):
    """The power of the noise is the signal's minus the given ratio."""
    clean = rolling("outer_race", snr_db=200.0)
    noise = rolling("outer_race", snr_db=snr) - clean

    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.1)


def test_severity_is_the_strength_of_impacts():
    """Apart from shaft and noise, twice the severity gives twice the amplitude."""
    quiet = {"snr_db": 200.0, "shaft_level": 0.0}
    single, two = rolling("ball", severity=1.0, **quiet), rolling("ball", severity=2.0, **quiet)

    assert np.std(two) == pytest.approx(2 * np.std(single), rel=1e-3)


def test_a_resonance_above_nyquist_raises():
    """The error says which sampling rate is needed."""
    with pytest.raises(ValueError, match="above 14000"):
        rolling("ball", resonance_hz=7000.0)
