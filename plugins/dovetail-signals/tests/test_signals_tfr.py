"""The representations as transforms."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as scipy_signal

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
    """Each gives finite, standardised values of its shape, and lets gradients through."""
    signals = noise(4, 2, 256).float().requires_grad_()
    found = transform.transform_batch({"inputs": signals, "targets": torch.zeros(4)}, DRAWS)["inputs"]
    found.square().mean().backward()

    assert found.shape == (4, *shape)
    assert float(found.detach().flatten(2).mean(-1).abs().max()) < 1e-3
    assert torch.isfinite(signals.grad).all()
    assert transform.transform_batch({"inputs": torch.zeros(1, 1, 256)}, DRAWS)["inputs"].abs().max() < 1e-3


def test_several_representations():
    """Inputs become a dict; a part that is not a representation, and inputs that are not signals, raise."""
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
def test_the_spectrum_is_scipys_welch(n_fft, length, seed):
    """It equals SciPy's Welch spectrum without the normalisation to a density."""
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
def test_a_band_outside_the_spectrum_raises(make, band):
    """Above half the sampling rate there is nothing, and its envelope would be 0."""
    with pytest.raises(ValueError, match=r"band: needs 0 ≤ low < high ≤ 6000 Hz, half the sampling rate, got \["):
        make(sample_rate=12_000.0, band=band)
    with pytest.raises(ValueError, match="band: needs"):
        tfr.envelope(noise(1, 64), sample_rate=12_000.0, band=band)


def test_the_envelope_is_stored_for_losses():
    """It is added to ``meta.signal``; inputs and other metadata do not change."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    signals = ((1 + 0.5 * torch.sin(2 * torch.pi * 120 * time)) * torch.sin(2 * torch.pi * 3000 * time))[None, None]
    batch = {"inputs": signals, "meta": {"rpm": [1800]}}
    found = KeepEnvelope(sample_rate=float(RATE), band=(2000, 4000)).transform_batch(batch, DRAWS)

    assert found["inputs"] is signals
    assert found["meta"]["rpm"] == [1800]
    torch.testing.assert_close(
        found["meta"]["signal"], 0.5 * torch.sin(2 * torch.pi * 120 * time)[None, None], rtol=0, atol=1e-3
    )


def test_drift_is_measured_on_transformed_inputs(tmp_path):
    """The reference is transformed like validation data; otherwise every feature would drift."""
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
