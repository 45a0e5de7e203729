"""Representations of signals against SciPy, and against what they must show."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as scipy_signal
from scipy.stats import kurtosis

from dovetail import Config
from dovetail.main import run
from dovetail.random import Draws
from dovetail_signals import representations as tfr
from dovetail_signals.tfr import CWT, STFT, EnvelopeSpectrum, KeepEnvelope, LogMel, MultiTFR, Spectrum, ZScore

RATE = 12_000
DRAWS = Draws(0, 0, torch.arange(4))


def noise(*shape, seed=0):
    """Return float64 noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20)
@given(st.sampled_from([16, 33, 128]), st.integers(1, 70), st.integers(130, 700), st.integers(0, 99))
def test_the_stft_is_scipys(n_fft, hop, length, seed):
    """The same windows, without padding, give the same power."""
    signals = noise(2, 3, length, seed=seed)
    window = scipy_signal.get_window("hann", n_fft)
    _, _, expected = scipy_signal.stft(
        signals.numpy(), window=window, nperseg=n_fft, noverlap=n_fft - min(hop, n_fft), boundary=None, padded=False
    )
    found = tfr.stft_power(signals, n_fft=n_fft, hop=min(hop, n_fft))

    np.testing.assert_allclose(found, np.abs(expected * window.sum()) ** 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [100, 101])
def test_the_analytic_signal_is_scipys(length):
    """For even and odd lengths."""
    signals = noise(2, length)

    np.testing.assert_allclose(tfr.analytic(signals), scipy_signal.hilbert(signals.numpy()), atol=1e-12)


def test_the_envelope_spectrum_shows_how_often_it_knocks():
    """A carrier in the band, modulated at 120 Hz to a depth of one half, shows 0.5 at 120 Hz, and nothing outside."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    signals = (1 + 0.5 * torch.sin(2 * torch.pi * 120 * time)) * torch.sin(2 * torch.pi * 3000 * time)
    found = tfr.envelope_spectrum(signals, sample_rate=RATE, band=(2000, 4000), high_hz=400)
    outside = tfr.envelope_spectrum(signals, sample_rate=RATE, band=(4000, 5000), high_hz=400)

    assert len(found) == 401
    assert int(found.argmax()) == 120
    assert float(found[120]) == pytest.approx(0.5, abs=1e-3)
    assert float(outside.max()) < 1e-9


def test_the_wavelet_transform_is_a_convolution():
    """It is what NumPy convolves with Morlet's wavelet, and a sine shows its own power at its own frequency."""
    length, hz, cycles = 4096, 700.0, 6.0
    time = (np.arange(length) - length // 2) / RATE
    scale = cycles / (2 * np.pi * hz)
    wavelet = np.exp(1j * cycles * time / scale - (time / scale) ** 2 / 2) * np.sqrt(2 / np.pi) / (scale * RATE)
    signals = noise(length)
    expected = np.fft.ifft(np.fft.fft(signals.numpy()) * np.fft.fft(np.fft.ifftshift(wavelet)))
    found = tfr.cwt_power(signals, frequencies=torch.tensor([hz]), sample_rate=RATE, cycles=cycles)
    sine = 3 * torch.sin(2 * torch.pi * 750 * torch.arange(4800, dtype=torch.float64) / RATE)
    shown = tfr.cwt_power(sine, frequencies=torch.tensor([400.0, 750.0, 1400.0]), sample_rate=RATE)

    # The wavelet in time has a little at negative frequencies, which the analytic one leaves out.
    np.testing.assert_allclose(found[0], np.abs(expected) ** 2, rtol=1e-4, atol=1e-6)
    assert float(shown[1].mean()) == pytest.approx(9.0, rel=1e-6)
    assert float(shown[[0, 2]].max()) < 0.1


def test_spectral_kurtosis_tells_impulses_from_noise_and_tones():
    """0 for noise, -1 for a tone, high for impulses, as SciPy's kurtosis of the real and imaginary parts says."""
    gauss = noise(200_000)
    tone = torch.sin(2 * torch.pi * 1500 * torch.arange(200_000, dtype=torch.float64) / RATE)
    knocks = torch.zeros(200_000, dtype=torch.float64)
    knocks[::2000] = 50.0
    values = {
        name: tfr.spectral_kurtosis(signals, n_fft=64, hop=64)
        for name, signals in {"noise": gauss, "tone": tone, "knocks": gauss + knocks}.items()
    }
    windows = gauss.unfold(-1, 64, 64) * torch.hann_window(64, dtype=torch.float64)
    spectrum = torch.fft.rfft(windows)[:, 10].numpy()

    assert values["noise"][4:28].abs().max() < 0.25
    assert float(values["tone"][8]) == pytest.approx(-1, abs=1e-3)
    assert values["knocks"][4:28].min() > 0.5
    # Of a circular complex Gaussian variable it is half of the excess kurtosis of each part.
    assert float(values["noise"][10]) == pytest.approx(
        (kurtosis(spectrum.real) + kurtosis(spectrum.imag)) / 4, abs=0.15
    )


def test_mel_filters():
    """They are triangles that add up to 1 between the first and the last top, closer together at low frequencies."""
    filters = tfr.mel_filters(2048, 20, 16_000, 100, 8000).double()
    tops = filters.argmax(1)

    assert filters.shape == (20, 1025)
    assert (tops.diff() > 0).all()
    assert (tops.diff().diff() >= -1).all()
    inside = filters.sum(0)[int(tops[0]) + 1 : int(tops[-1])]
    assert float((inside - 1).abs().max()) < 1e-5
    with pytest.raises(ValueError, match="low_hz < high_hz"):
        tfr.mel_filters(256, 4, 8000, 100, 5000)


@pytest.mark.parametrize(
    "transform, shape",
    [
        (ZScore(), (2, 256)),
        (STFT(n_fft=64), (2, 33, 13)),
        (LogMel(sample_rate=RATE, n_fft=64, n_mels=10), (2, 10, 13)),
        (CWT(sample_rate=RATE, frequencies=7, hop=10), (2, 7, 26)),
        (EnvelopeSpectrum(sample_rate=RATE), (2, 129)),
    ],
)
def test_transforms_of_batches(transform, shape):
    """Each gives finite, standardised values of the shape that it says, and lets gradients through."""
    signals = noise(4, 2, 256).float().requires_grad_()
    found = transform.transform_batch({"inputs": signals, "targets": torch.zeros(4)}, DRAWS)["inputs"]
    found.square().mean().backward()

    assert found.shape == (4, *shape)
    assert float(found.detach().flatten(2).mean(-1).abs().max()) < 1e-3
    assert torch.isfinite(signals.grad).all()
    assert transform.transform_batch({"inputs": torch.zeros(1, 1, 256)}, DRAWS)["inputs"].abs().max() < 1e-3


def test_several_at_once():
    """Inputs become a dict, and what is no representation is refused."""
    both = MultiTFR(representations={"stft": STFT(n_fft=64), "envelope": EnvelopeSpectrum(sample_rate=RATE)})
    found = both.transform_batch({"inputs": noise(4, 1, 256).float()}, DRAWS)["inputs"]

    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "stft": (4, 1, 33, 13),
        "envelope": (4, 1, 129),
    }
    with pytest.raises(ValueError, match="is not a representation"):
        MultiTFR(representations={"x": object()})
    with pytest.raises(ValueError, match="name at least one"):
        MultiTFR(representations={})
    with pytest.raises(ValueError, match=r"\[batch, channels, time\]"):
        both.transform_batch({"inputs": torch.zeros(4, 256)}, DRAWS)
    with pytest.raises(ValueError, match="n_fft = 512 is longer than the signals, 256"):
        STFT(n_fft=512).transform_batch({"inputs": torch.zeros(1, 1, 256)}, DRAWS)


@settings(max_examples=20)
@given(st.sampled_from([16, 33, 128]), st.integers(130, 700), st.integers(0, 99))
def test_the_spectrum_is_scipys_by_welch(n_fft, length, seed):
    """The mean over the same windows, but for Welch's normalisation to a density."""
    signals = noise(2, 1, length, seed=seed)
    window = scipy_signal.get_window("hann", n_fft)
    hop = n_fft // 2
    _, expected = scipy_signal.welch(
        signals.numpy(), window=window, nperseg=n_fft, noverlap=n_fft - hop, detrend=False, return_onesided=False
    )
    power = expected[..., : n_fft // 2 + 1] * (window**2).sum()
    found = Spectrum(n_fft=n_fft, hop=hop, standardize=False).represent(signals)

    np.testing.assert_allclose(10 ** (found.numpy() / 10), power, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("band", [(2000.0, 7000.0), (3000.0, 2000.0), (-1.0, 100.0), (50.0, 50.0)])
@pytest.mark.parametrize("make", [EnvelopeSpectrum, KeepEnvelope])
def test_a_band_that_signals_do_not_have_is_refused(make, band):
    """Above half of the sampling rate there is nothing, and the envelope of nothing would be 0 everywhere."""
    with pytest.raises(ValueError, match=r"band: needs 0 ≤ low < high ≤ 6000 Hz, half the sampling rate, got \["):
        make(sample_rate=12_000.0, band=band)
    with pytest.raises(ValueError, match="band: needs"):
        tfr.envelope(noise(1, 64), sample_rate=12_000.0, band=band)


def test_the_envelope_is_left_for_losses():
    """In meta.signal, beside what is there; the inputs stay."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    signals = ((1 + 0.5 * torch.sin(2 * torch.pi * 120 * time)) * torch.sin(2 * torch.pi * 3000 * time))[None, None]
    batch = {"inputs": signals, "meta": {"rpm": [1800]}}
    found = KeepEnvelope(sample_rate=float(RATE), band=(2000, 4000)).transform_batch(batch, DRAWS)

    assert found["inputs"] is signals
    assert found["meta"]["rpm"] == [1800]
    torch.testing.assert_close(
        found["meta"]["signal"], 0.5 * torch.sin(2 * torch.pi * 120 * time)[None, None], rtol=0, atol=1e-3
    )


def test_drift_is_looked_for_in_what_the_network_sees(tmp_path):
    """The reference is transformed as validation is: otherwise every feature would have drifted."""
    table = {
        "data": {
            "type": "signals.simulated_rolling",
            "recordings": 4,
            "seconds": 0.5,
            "window": 64,
            "split": {"validation": 0.5, "test": 0, "unit": "sample"},
        },
        "transforms": {"scale": {"type": "signals.zscore"}},
        "model": {"type": "mlp", "hidden_dims": [4]},
        "loss": {"type": "cross_entropy"},
        "callbacks": {"drift": {"type": "drift_monitor"}},
        "training": {"max_epochs": 1},
        "hardware": {"device": "cpu", "threads": 1},
        "report": {"enabled": False},
        "logging": {"console": False},
        "paths": {"output": str(tmp_path)},
    }
    run(Config.from_dict(table).build()).check()
    (log,) = tmp_path.rglob("metrics.jsonl")
    (found,) = [event for event in map(json.loads, log.read_text().splitlines()) if event["event"] == "monitor"]

    assert 0 < found["metrics"]["drift"] < 0.1
    assert found["metrics"]["drift_features"] == 0
