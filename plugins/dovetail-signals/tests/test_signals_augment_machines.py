"""Speed perturbation and random filters."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.random import Draws
from dovetail_signals.augment.machines import RandomFilter, SpeedPerturbation, random_filter, speed_perturbation


def draws(count, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


def tone(frequency, length, dtype=torch.float64):
    """Return a sine [1, 1, length] with a frequency in cycles per sample."""
    return torch.sin(2 * math.pi * frequency * torch.arange(length, dtype=dtype))[None, None]


@given(st.floats(0.9, 1.1), st.integers(0, 20))
def test_a_fixed_speed_scales_the_frequency(speed, seed):
    """A tone played at a speed has its frequency times the speed."""
    found = speed_perturbation(tone(0.05, 500), (speed, speed), draws=draws(1, seed))[0, 0]
    expected = tone(0.05 * speed, 500)[0, 0]

    torch.testing.assert_close(found[20:430], expected[20:430], rtol=0, atol=3e-3)


def test_speeds_cover_the_range():
    """The frequencies of a thousand tones range from the lowest to the highest speed, around the middle."""
    found = speed_perturbation(tone(0.05, 400, torch.float32).expand(1000, 1, 400), (0.8, 1.2), draws=draws(1000))
    turns = torch.fft.rfft(found[:, 0, :320], n=8192).abs().argmax(-1) / 8192 / 0.05

    assert 0.79 < float(turns.min()) < 0.83
    assert 1.17 < float(turns.max()) < 1.21
    assert float(turns.mean()) == pytest.approx(1, abs=0.015)


def test_a_random_filter_has_the_given_deviation_and_is_smooth():
    """White noise gets gains of 6 dB deviation at the knots, independent for each channel, by address."""
    signals = torch.randn(2000, 2, 256, generator=torch.Generator().manual_seed(0))
    found = random_filter(signals, 6.0, 5, draws=draws(2000))
    gains = 20 * torch.log10(torch.fft.rfft(found).abs() / torch.fft.rfft(signals).abs())

    assert float(gains[..., 32].std()) == pytest.approx(6, abs=0.3)  # the second knot of 129 frequencies
    assert float(gains[..., 1:].diff(dim=-1).abs().max()) < 6 * 8 / 32
    assert abs(float((gains[:, 0, 32] * gains[:, 1, 32]).mean())) < 3
    assert torch.equal(found[7:8], random_filter(signals[7:8], 6.0, 5, draws=Draws(0, 1, torch.tensor([7]), "test")))


def test_transforms_change_inputs_only():
    """Labels do not change; a descending speed range raises."""
    batch = {"inputs": torch.randn(3, 1, 64), "targets": torch.tensor([0, 1, 2])}
    for part in (RandomFilter(), SpeedPerturbation()):
        changed = part.transform_batch(batch, draws(3))
        assert changed["targets"] is batch["targets"]
        assert changed["inputs"].shape == (3, 1, 64)
        assert not torch.equal(changed["inputs"], batch["inputs"])
    with pytest.raises(ValueError, match=r"needs 0 < lowest ≤ highest ≤ 2, got 1\.1 and 0\.9"):
        SpeedPerturbation(speed_range=(1.1, 0.9))
