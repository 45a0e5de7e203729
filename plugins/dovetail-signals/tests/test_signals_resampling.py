"""Resampling and order tracking."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.random import Draws
from dovetail_signals.resampling import AngularResampling, resample_by_angle, sinc_resample


def draws(count, seed=0):
    """Return the draws of a batch."""
    return Draws(seed, 1, torch.arange(count), "test")


def tone(frequency, length, dtype=torch.float64):
    """Return a sine [1, 1, length] with a frequency in cycles per sample."""
    return torch.sin(2 * math.pi * frequency * torch.arange(length, dtype=dtype))[None, None]


@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 99))
def test_a_step_of_one_returns_the_samples(time, length, seed):
    """Values within the signal are unchanged, and beyond its end they are 0."""
    signals = torch.randn(2, 3, time, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = sinc_resample(signals, torch.ones(2), length)
    shared = min(time, length)

    torch.testing.assert_close(found[..., :shared], signals[..., :shared], rtol=0, atol=1e-12)
    assert not found[..., shared + 8 :].any()


@settings(max_examples=30)
@given(st.floats(0.02, 0.35), st.floats(0.5, 1.2))
def test_a_tone_is_interpolated(frequency, step):
    """Away from the ends, a tone up to 0.7 of either Nyquist frequency becomes the same tone at another speed."""
    if frequency * step > 0.35:
        frequency = 0.35 / step
    found = sinc_resample(tone(frequency, 400), torch.tensor([step], dtype=torch.float64), 300)[0, 0]
    expected = tone(frequency * step, 300)[0, 0]

    torch.testing.assert_close(found[20:280], expected[20:280], rtol=0, atol=5e-3)


def test_aliases_are_removed():
    """A tone above half the new rate leaves less than a hundredth."""
    found = sinc_resample(tone(0.4, 2000), torch.tensor([2.0]), 900)[0, 0]

    assert float(found[50:850].abs().max()) < 0.01


def test_orders_do_not_depend_on_the_speed():
    """A tone at order 3.5 gives the same signal at 1,500 and at 1,800 rpm."""
    rate, per_turn, length = 12_000.0, 256, 2048
    rpm = torch.tensor([1500, 1800])
    time = torch.arange(8192, dtype=torch.float64) / rate
    signals = torch.sin(2 * math.pi * 3.5 * (rpm[:, None] / 60) * time)[:, None]
    slow, fast = resample_by_angle(signals, rpm, sample_rate=rate, samples_per_turn=per_turn, length=length)[:, 0]

    torch.testing.assert_close(slow[20:-20], fast[20:-20], rtol=0, atol=3e-3)
    torch.testing.assert_close(slow[20:-20], tone(3.5 / per_turn, length)[0, 0, 20:-20], rtol=0, atol=3e-3)


def test_too_few_revolutions_and_zero_speed_raise():
    """A window that is too short for the length, and a shaft that stands still."""
    signals = torch.zeros(2, 1, 1000)
    with pytest.raises(
        ValueError,
        match=r"length = 512 at samples_per_turn = 256 and 1000 rpm needs 1\d+ samples, but the signals have 1000",
    ):
        resample_by_angle(signals, torch.tensor([1800, 1000]), sample_rate=12_000, samples_per_turn=256, length=512)
    with pytest.raises(ValueError, match="rpm must be above 0, got 0"):
        resample_by_angle(signals, torch.tensor([1800, 0]), sample_rate=12_000, samples_per_turn=256, length=10)


def test_the_transform_reads_the_speed_of_each_signal():
    """Two speeds with one order give one frequency; without the speed, the error says how to add it."""
    part = AngularResampling(sample_rate=12_000.0, samples_per_turn=256, length=1024, speed="turns")
    turns = torch.tensor([1500, 1800])
    time = torch.arange(8192) / 12_000
    batch = {"inputs": torch.sin(2 * math.pi * 5 * (turns[:, None] / 60) * time)[:, None], "meta": {"turns": turns}}
    found = part.transform_batch(batch, draws(2))

    assert found["inputs"].shape == (2, 1, 1024)
    assert torch.fft.rfft(found["inputs"]).abs().argmax(-1).tolist() == [[20], [20]]  # 5 of 1024 / 256 turns
    with pytest.raises(ValueError, match=r'in meta\.turns; set data\.meta = \["turns"\]'):
        part.transform_batch({"inputs": batch["inputs"]}, draws(2))
