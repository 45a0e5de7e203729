"""Representations of signals against SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as scipy_signal
from scipy.stats import kurtosis

from dovetail_signals import representations as tfr

RATE = 12_000


def noise(*shape, seed=0):
    """Return float64 noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20)
@given(st.sampled_from([16, 33, 128]), st.integers(1, 70), st.integers(130, 700), st.integers(0, 99))
def test_the_stft_is_scipys(n_fft, hop, length, seed):
    """With the same windows and no padding, the power equals SciPy's."""
    signals = noise(2, 3, length, seed=seed)
    window = scipy_signal.get_window("hann", n_fft)
    _, _, expected = scipy_signal.stft(
        signals.numpy(), window=window, nperseg=n_fft, noverlap=n_fft - min(hop, n_fft), boundary=None, padded=False
    )
    found = tfr.stft_power(signals, n_fft=n_fft, hop=min(hop, n_fft))

    np.testing.assert_allclose(found, np.abs(expected * window.sum()) ** 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [100, 101])
def test_the_analytic_signal_is_scipys(length):
    """For even and odd lengths it equals SciPy's."""
    signals = noise(2, length)

    np.testing.assert_allclose(tfr.analytic(signals), scipy_signal.hilbert(signals.numpy()), atol=1e-12)


def test_the_envelope_spectrum_shows_the_modulation():
    """A carrier modulated at 120 Hz by one half shows 0.5 at 120 Hz if the band contains it, else nothing."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    signals = (1 + 0.5 * torch.sin(2 * torch.pi * 120 * time)) * torch.sin(2 * torch.pi * 3000 * time)
    found = tfr.envelope_spectrum(signals, sample_rate=RATE, band=(2000, 4000), high_hz=400)
    outside = tfr.envelope_spectrum(signals, sample_rate=RATE, band=(4000, 5000), high_hz=400)

    assert len(found) == 401
    assert int(found.argmax()) == 120
    assert float(found[120]) == pytest.approx(0.5, abs=1e-3)
    assert float(outside.max()) < 1e-9


def test_the_wavelet_transform_is_a_convolution():
    """It equals a convolution with the Morlet wavelet; a sine has its power at its own frequency."""
    length, hz, cycles = 4096, 700.0, 6.0
    time = (np.arange(length) - length // 2) / RATE
    scale = cycles / (2 * np.pi * hz)
    wavelet = np.exp(1j * cycles * time / scale - (time / scale) ** 2 / 2) * np.sqrt(2 / np.pi) / (scale * RATE)
    signals = noise(length)
    expected = np.fft.ifft(np.fft.fft(signals.numpy()) * np.fft.fft(np.fft.ifftshift(wavelet)))
    found = tfr.cwt_power(signals, frequencies=torch.tensor([hz]), sample_rate=RATE, cycles=cycles)
    sine = 3 * torch.sin(2 * torch.pi * 750 * torch.arange(4800, dtype=torch.float64) / RATE)
    shown = tfr.cwt_power(sine, frequencies=torch.tensor([400.0, 750.0, 1400.0]), sample_rate=RATE)

    # The wavelet in time has small negative frequencies, which the analytic one lacks.
    np.testing.assert_allclose(found[0], np.abs(expected) ** 2, rtol=1e-4, atol=1e-6)
    assert float(shown[1].mean()) == pytest.approx(9.0, rel=1e-6)
    assert float(shown[[0, 2]].max()) < 0.1


def test_spectral_kurtosis_tells_impulses_from_noise_and_tones():
    """It is 0 for noise, -1 for a tone, high for impulses, and agrees with SciPy's kurtosis."""
    gauss = noise(200_000)
    tone = torch.sin(2 * torch.pi * 1500 * torch.arange(200_000, dtype=torch.float64) / RATE)
    impulses = torch.zeros(200_000, dtype=torch.float64)
    impulses[::2000] = 50.0
    values = {
        name: tfr.spectral_kurtosis(signals, n_fft=64, hop=64)
        for name, signals in {"noise": gauss, "tone": tone, "impulses": gauss + impulses}.items()
    }
    windows = gauss.unfold(-1, 64, 64) * torch.hann_window(64, dtype=torch.float64)
    spectrum = torch.fft.rfft(windows)[:, 10].numpy()

    assert values["noise"][4:28].abs().max() < 0.25
    assert float(values["tone"][8]) == pytest.approx(-1, abs=1e-3)
    assert values["impulses"][4:28].min() > 0.5
    # For a circular complex Gaussian it is half of the excess kurtosis of each part.
    assert float(values["noise"][10]) == pytest.approx(
        (kurtosis(spectrum.real) + kurtosis(spectrum.imag)) / 4, abs=0.15
    )


def test_mel_filters():
    """They are triangles that add up to 1 between the first and last peak, and denser at low frequencies."""
    filters = tfr.mel_filters(2048, 20, 16_000, 100, 8000).double()
    tops = filters.argmax(1)

    assert filters.shape == (20, 1025)
    assert (tops.diff() > 0).all()
    assert (tops.diff().diff() >= -1).all()
    inside = filters.sum(0)[int(tops[0]) + 1 : int(tops[-1])]
    assert float((inside - 1).abs().max()) < 1e-5
    with pytest.raises(ValueError, match="low_hz < high_hz"):
        tfr.mel_filters(256, 4, 8000, 100, 5000)
