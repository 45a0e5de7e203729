"""Tests of the single physical terms, of consecutive windows and of the Sommerfeld number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import forward_ad

from dovetail import ops
from native_ops import needs_native


def test_frequency_consistency_reaches_the_logits() -> None:
    """A gradient step moves probability to the class with the smallest penalty; an argmax would have no gradient."""
    logits = torch.zeros(2, 3, requires_grad=True)
    penalties = torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.9, 0.9]])

    loss = ops.frequency_consistency(logits, penalties)
    loss.backward()

    assert loss.item() == pytest.approx((1.8 + 2.0) / 3 / 2)
    assert logits.grad is not None
    assert logits.grad.argmin(1).tolist() == [1, 0]
    assert logits.grad.abs().min() > 0.01


def test_frequency_consistency_reaches_the_signal() -> None:
    """A gradient reaches signals that require one, through the penalties."""
    signals = torch.randn(2, 64, requires_grad=True)
    penalties = ops.frequency_penalties(signals, ops.bands_around([[], [100.0]]), sample_rate=1000)

    ops.frequency_consistency(torch.randn(2, 2), penalties).backward()

    assert signals.grad is not None
    assert signals.grad.abs().max() > 0


def test_sommerfeld_consistency_of_scores_and_of_a_scalar() -> None:
    """Class logits give the expected level; a predicted severity is used directly."""
    levels, severity = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.25, 0.75])
    scores = torch.tensor([[0.0, 0.0, -math.inf], [-math.inf, 0.0, 0.0]], requires_grad=True)
    scalars = torch.tensor([[0.5], [0.25]], requires_grad=True)

    of_scores = ops.sommerfeld_consistency(scores, severity, levels)
    of_scalars = ops.sommerfeld_consistency(scalars, severity)
    of_scalars.backward()

    assert of_scores.item() == pytest.approx(0.0)
    assert of_scalars.item() == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert scalars.grad is not None
    assert scalars.grad.flatten().tolist() == pytest.approx([0.25, -0.5])
    assert float(ops.sommerfeld_consistency(torch.zeros(0), torch.zeros(0))) == 0.0


def test_temporal_smoothness_uses_times_and_recordings() -> None:
    """A change over twice the time has a quarter of the weight; changes between recordings have none."""
    logits = torch.tensor([[20.0, -20.0], [-20.0, 20.0], [20.0, -20.0]])

    def smoothness(*arguments: Any, **options: Any) -> float:
        return float(ops.temporal_smoothness(logits, *arguments, **options))

    assert smoothness() == pytest.approx(2.0)
    assert smoothness(torch.tensor([0, 0, 1])) == pytest.approx(2.0)
    assert smoothness(torch.tensor([0, 1, 2])) == 0.0
    assert smoothness(torch.tensor([5, 1, 5])) == pytest.approx(0.0, abs=1e-6)
    assert smoothness(None, torch.tensor([0.0, 2.0, 4.0])) == pytest.approx(0.5)
    assert smoothness(None, torch.tensor([0.0, 2.0, 4.0]), time_step=2.0) == pytest.approx(2.0)


@given(
    recordings=st.lists(st.integers(0, 3), max_size=9),
    times=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, math.nan]), min_size=9, max_size=9),
    with_recordings=st.booleans(),
    with_times=st.booleans(),
)
def test_consecutive_finds_the_previous_window(
    recordings: list[int], times: list[float], with_recordings: bool, with_times: bool
) -> None:
    """In any order of the batch, it is the latest earlier window of the recording; the next window is the inverse."""
    count = len(recordings)
    recordings = recordings if with_recordings else [0] * count
    times = [0.0 if math.isnan(time) and not with_times else time for time in times[:count]]
    times = times if with_times else [float(position) for position in range(count)]
    windows = ops.consecutive(
        count,
        torch.tensor(recordings, dtype=torch.int64) if with_recordings else None,
        torch.tensor(times, dtype=torch.float64) if with_times else None,
    )
    before, after = windows.neighbours[:, 0].tolist(), windows.neighbours[:, 1].tolist()

    for window, previous in enumerate(before):
        same = [other for other in range(count) if recordings[other] == recordings[window]]
        if with_times:
            earlier = [other for other in same if times[other] < times[window]]
            level = [other for other in same if times[other] == times[window]]
            first_of_its_time = not level or min(level) == window
            latest = max((times[other] for other in earlier), default=math.nan)
            if previous >= 0:
                assert times[previous] == latest
                passed = times[window] - latest
                assert windows.rates[window].item() == pytest.approx(passed**-2)
            else:
                assert not earlier or not first_of_its_time
        else:
            assert previous == max((other for other in same if other < window), default=-1)
        assert previous < 0 or after[previous] == window
    assert sum(index >= 0 for index in before) == sum(index >= 0 for index in after)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_gradients_of_16_bits_survive_a_loss_scale(dtype: torch.dtype) -> None:
    """With a scaled loss, gradients that would underflow in float16 are not 0."""
    logits = torch.zeros(4096, 4, dtype=dtype, requires_grad=True)
    penalties = torch.tensor([0.5, 0.5, 0.5, 0.5001]).expand(4096, 4)

    (ops.frequency_consistency(logits, penalties) * 2.0**16).backward()

    assert logits.grad is not None
    assert logits.grad.dtype is dtype
    assert (logits.grad[:, 3] > 0).all()


@needs_native
def test_forward_mode_is_an_error() -> None:
    """Tangents are not silently dropped, neither in forward_ad nor in torch.func."""
    logits, penalties = torch.randn(2, 3), torch.rand(2, 3)

    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        ops.frequency_consistency(forward_ad.make_dual(logits, logits), penalties)
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.jvp(lambda scores: ops.frequency_consistency(scores, penalties), (logits,), (logits,))


def test_consecutive_checks_its_arguments() -> None:
    """Shapes that do not match and a time step of 0 are errors."""
    with pytest.raises(ValueError, match=r"recordings must have shape \(3,\), got \(2,\)"):
        ops.consecutive(3, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="time_step must be above 0, got 0"):
        ops.consecutive(3, time_step=0)


def test_sommerfeld_consistency_checks_its_arguments() -> None:
    """Predictions for another number of samples are an error."""
    with pytest.raises(ValueError, match=r"must be \[N\] or \[N, 1\]"):
        ops.sommerfeld_consistency(torch.zeros(3), torch.zeros(2))


def test_sommerfeld_number_by_hand() -> None:
    """Oil of 0.02 Pa s at 1800 rpm and 5 kN, in a bearing of 50 by 100 mm with a clearance of 0.1 mm."""
    found = ops.sommerfeld_number(torch.tensor([0.02]), torch.tensor([-1800]), torch.tensor([5000.0]))

    assert found.item() == pytest.approx(0.02 * 30 / (5000 / (0.05 * 0.1)) * 500**2)
    assert found.dtype is torch.float64


@given(ratio=st.floats(1e-5, 1 - 1e-5), slenderness=st.sampled_from([0.25, 0.5, 1.0]))
def test_the_severity_solves_the_equation(ratio: float, slenderness: float) -> None:
    """The severity of the number computed from a ratio is the ratio."""
    free = 1 - ratio**2
    number = free**2 / (math.pi * ratio * math.sqrt(math.pi**2 * free + 16 * ratio**2)) / slenderness**2

    found = ops.sommerfeld_severity(torch.tensor([number], dtype=torch.float64), slenderness)

    assert found.item() == pytest.approx(ratio, abs=1e-6)


def test_severity_at_the_limits() -> None:
    """It is 1 without speed or oil, 0 without load, and NaN for NaN or negative numbers."""
    numbers = torch.tensor([0.0, math.inf, math.nan, -1.0, 1e-30, 1e30])

    found = ops.sommerfeld_severity(numbers)

    wanted = torch.tensor([1.0, 0.0, math.nan, math.nan, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6, equal_nan=True)
    unloaded = ops.sommerfeld_number(torch.tensor([0.02]), torch.tensor([1800.0]), torch.tensor([0.0]))
    assert math.isinf(unloaded.item())
    assert ops.sommerfeld_severity(torch.zeros(0)).shape == (0,)


def test_harder_conditions_are_more_severe() -> None:
    """Lower speed, higher load and thinner oil each increase the severity."""

    def severity(viscosity: float, rpm: float, load: float) -> float:
        tensors = (torch.tensor([value]) for value in (viscosity, rpm, load))
        return ops.sommerfeld_severity(ops.sommerfeld_number(*tensors)).item()

    middle = severity(0.02, 1800, 5000)

    assert severity(0.02, 900, 5000) > middle
    assert severity(0.02, 1800, 9000) > middle
    assert severity(0.01, 1800, 5000) > middle


def test_invalid_dimensions_are_an_error() -> None:
    """The message names the argument."""
    conditions = [torch.ones(1)] * 3
    with pytest.raises(ValueError, match="clearance must be above 0, got 0"):
        ops.sommerfeld_number(*conditions, clearance=0.0)
    with pytest.raises(ValueError, match="slenderness must be above 0, got -1"):
        ops.sommerfeld_severity(torch.ones(1), -1.0)
