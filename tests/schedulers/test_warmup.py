"""Tests of schedules with a warm-up against their published formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.schedulers import Epochs, linear_warmup, noam, warmup_cosine, warmup_linear
from dovetail.schedulers.warmup import Warmup, warmup_steps
from rates import RATES, assert_close, optimizer, rates_over


@given(total=st.integers(1, 30), warm=st.integers(0, 30), floor=st.sampled_from([0.0, 1e-7, 0.05]))
def test_warmup_cosine_follows_its_formula(total: int, warm: int, floor: float) -> None:
    """The rate rises as (t + 1)/(w + 1) to the base at t = w, then falls along half a cosine to the floor."""
    warm = min(warm, total)

    found = rates_over(warmup_cosine(optimizer(), total, 1, warmup=warm, min_lr=floor), total + 2)

    for step, rates in enumerate(found):
        for rate, base in zip(rates, RATES, strict=True):
            if step < warm:
                expected = base * (step + 1) / (warm + 1)
            else:
                progress = min((step - warm) / max(total - warm, 1), 1)
                expected = floor + (base - floor) * (1 + math.cos(math.pi * progress)) / 2
            assert rate == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(total=st.integers(1, 30), warm=st.integers(0, 30))
def test_warmup_linear_follows_berts_schedule(total: int, warm: int) -> None:
    """It is Hugging Face's get_linear_schedule_with_warmup, one step ahead, because that begins with a rate of 0."""
    warm = min(warm, total)

    def published(step: int, warmup: int, training: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        return max(0.0, (training - step) / max(1, training - warmup))

    found = rates_over(warmup_linear(optimizer(), total, 1, warmup=warm), total + 2)

    # With warm = total, the published schedule ends one step after its peak, and this one at its peak.
    steps = range(total + 3) if warm < total else range(total)
    assert_close(
        [found[step] for step in steps],
        [[base * published(step + 1, warm + 1, total + 1) for base in RATES] for step in steps],
    )


@given(width=st.integers(1, 1024), warm=st.integers(1, 40), steps=st.integers(0, 60))
def test_noam_follows_the_paper(width: int, warm: int, steps: int) -> None:
    """The rate is lr · d_model^-0.5 · min(n^-0.5, n · warmup^-1.5), and peaks at n = warmup."""
    found = [rates[0] for rates in rates_over(noam(optimizer((2.0,)), d_model=width, warmup_steps=warm), steps)]

    expected = [2.0 / math.sqrt(width) * min(1 / math.sqrt(n), n / math.sqrt(warm**3)) for n in range(1, steps + 2)]
    assert found == pytest.approx(expected, rel=1e-12)
    if steps + 1 >= warm:
        assert found.index(max(found)) == warm - 1


@given(total=st.integers(1, 20), fraction=st.floats(0, 1))
def test_linear_warmup_rises_then_stays_constant(total: int, fraction: float) -> None:
    """The rate is above 0 at the first update, never falls, and equals the base after the warm-up."""
    warm = round(fraction * total)

    found = [rates[0] for rates in rates_over(linear_warmup(optimizer((0.1,)), total, 1, warmup=fraction), total)]

    assert found[0] > 0
    assert found == sorted(found)
    assert found[warm:] == pytest.approx([0.1] * (total + 1 - warm))


@pytest.mark.parametrize(
    "warmup, expected",
    [
        (0.1, 10),
        (0.0, 0),
        (1.0, 100),
        (0, 0),
        (1, 1),
        (100, 100),
        (Epochs(2), 40),
        (Epochs(0.5), 10),
        (Epochs(0), 0),
    ],
)
def test_a_warmup_is_a_fraction_steps_or_epochs(warmup: Warmup, expected: int) -> None:
    """Of 100 steps, 20 per epoch: a float is a fraction, an integer steps, a table epochs."""
    assert warmup_steps(warmup, 100, 20) == expected


@pytest.mark.parametrize(
    "warmup, message",
    [
        (3.0, "warmup: a fraction must be between 0 and 1, got 3; for steps, write an integer"),
        (-0.1, "warmup: a fraction must be between 0 and 1, got -0.1"),
        (-5, "warmup: must be at least 0, got -5 steps"),
        (101, "warmup: 101 steps is longer than the run, which has 100 steps"),
        (Epochs(6), "warmup: 6 epochs is longer than the run, which has 100 steps"),
    ],
)
def test_a_warmup_that_does_not_fit_is_refused(warmup: Warmup, message: str) -> None:
    """The message shows a length that is too long, negative, or a fraction above 1."""
    with pytest.raises(ValueError, match=message):
        warmup_cosine(optimizer(), 100, 20, warmup=warmup)


def test_negative_epochs_are_refused_before_a_run() -> None:
    """The options class checks the value, so `config check` reports it."""
    with pytest.raises(ValueError, match="epochs: must be at least 0, got -1"):
        Epochs(-1)
