"""Controls of the physics losses: the same loss with wrong frequencies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail import ModelOutput
from dovetail_signals.losses.constraint import PhysicalConstraintLoss
from dovetail_signals.losses.controls import apply_control
from dovetail_signals.losses.frequency import FrequencyConsistencyLoss

#: Three faults with two sizes each; one of the faults also has a band.
FREQUENCIES = {0: [4.7], 1: [4.7], 2: [5.4], 3: [5.4], 4: [3.6], 5: [3.6]}
SPANS = {4: [(2000.0, 2500.0)], 5: [(2000.0, 2500.0)]}


@given(st.integers(0, 10_000))
def test_scrambled_classes_exchange_frequencies(seed):
    """Classes with equal frequencies stay equal, no class keeps its own, and nothing is lost."""
    frequencies, spans = apply_control(FREQUENCIES, SPANS, "scrambled", seed, 0.05)
    both = {which: (tuple(frequencies[which]), tuple(spans[which])) for which in FREQUENCIES}
    before = {which: (tuple(FREQUENCIES[which]), tuple(SPANS.get(which, ()))) for which in FREQUENCIES}

    assert sorted(both.values()) == sorted(before.values())
    assert all(both[which] != before[which] for which in FREQUENCIES)
    assert both[0] == both[1]
    assert both[2] == both[3]
    assert both[4] == both[5]


@given(st.integers(0, 10_000), st.floats(0.01, 0.1))
def test_random_frequencies_are_away_from_the_true_ones(seed, tolerance):
    """Each class gets as many; their bands avoid every true band and are within an octave of all of them."""
    frequencies, spans = apply_control(FREQUENCIES, SPANS, "random", seed, tolerance)
    drawn = {frequency for found in frequencies.values() for frequency in found}

    assert {which: len(found) for which, found in frequencies.items()} == dict.fromkeys(FREQUENCIES, 1)
    assert frequencies[0] == frequencies[1]
    for frequency in drawn:
        assert 3.6 * (1 - tolerance) / 2 <= frequency * (1 + tolerance)
        assert frequency * (1 - tolerance) <= 5.4 * (1 + tolerance) * 2
        for true in (3.6, 4.7, 5.4):
            assert frequency * (1 + tolerance) <= true * (1 - tolerance) or frequency * (1 - tolerance) >= true * (
                1 + tolerance
            )
    ((low, high),) = set(spans[4])
    assert high / low == pytest.approx(2500 / 2000)
    assert high <= 2000 or low >= 2500
    assert apply_control(FREQUENCIES, SPANS, "random", seed, tolerance) == (frequencies, spans)


def test_without_a_control_nothing_changes():
    """The seed has no influence then."""
    assert apply_control(FREQUENCIES, SPANS, "none", 7, 0.05) == (FREQUENCIES, SPANS)


def test_impossible_controls_raise():
    """Classes with equal frequencies, and bands that leave no room; without frequencies nothing changes."""
    with pytest.raises(ValueError, match="needs classes with different frequencies"):
        apply_control({0: [3.0], 1: [3.0]}, {}, "scrambled", 0, 0.05)
    with pytest.raises(ValueError, match="leave no room"):
        apply_control({0: [3.0]}, {}, "random", 0, 0.99)
    with pytest.raises(ValueError, match="leave no room"):
        apply_control({}, {0: [(0.0, 10.0)]}, "random", 0, 0.05)
    assert apply_control({}, {}, "random", 0, 0.05) == ({}, {})


def test_both_losses_take_controls():
    """A tone at a class's true frequency costs that class more under either control."""
    rate, length = 1000, 2000
    time = torch.arange(length) / rate
    batch = {"inputs": torch.sin(2 * torch.pi * 50 * time)[None], "targets": torch.tensor([0])}
    outputs = ModelOutput.from_raw(torch.tensor([[20.0, 0.0]]))
    given_to_all = {"expected_freqs": {"0": [50.0], "1": [80.0]}, "sample_rate": rate, "tolerance": 0.05}

    def cost(control):
        alone = FrequencyConsistencyLoss(**given_to_all, control=control, control_seed=1)(outputs, batch).total
        within = PhysicalConstraintLoss(1.0, 0.0, 0.0, **given_to_all, control=control, control_seed=1)(
            outputs, batch
        ).parts["frequency"]
        torch.testing.assert_close(alone, within)
        return float(alone)

    assert cost("none") < 0.1
    assert cost("scrambled") > 0.9
    assert cost("random") > 0.9
