"""Gradient accumulation: when to update, clipping, and statistics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dovetail.pieces import GradientAccumulator, TrainingLoop
from loop_samples import network, pairs


@pytest.mark.parametrize("by_global_norm", [True, False])
def test_statistics_in_a_training_loop(by_global_norm):
    """The norms are those that the accumulator of a loop written by hand measures."""
    batches, by_hand = pairs(2, 5), network()
    accumulator, other = (GradientAccumulator(2, 0.05, by_global_norm) for _ in range(2))
    model = network()
    TrainingLoop(accumulator, None, nn.CrossEntropyLoss()).run_epoch(
        1, model, batches, torch.optim.SGD(model.parameters(), 0.1)
    )
    for inputs, labels in batches:
        (nn.functional.cross_entropy(by_hand(inputs), labels) / 2).backward()
    other.clip_gradients(by_hand)
    found, expected = accumulator.get_statistics(), other.get_statistics()

    assert found["norm_before"] == pytest.approx(expected["norm_before"], rel=1e-5)
    assert found["norm_after"] == pytest.approx(expected["norm_after"], rel=1e-4)
    assert found["norm_after"] < found["norm_before"]
    assert (found["effective_step"], found["num_parameters"]) == (1, expected["num_parameters"])


@pytest.mark.parametrize("by_global_norm", [True, False])
def test_accumulation_in_a_loop_written_by_hand(by_global_norm):
    """Every fourth batch updates, gradients are clipped as torch clips them, and the statistics have the norms."""
    accumulator = GradientAccumulator(4, 0.05, by_global_norm)
    model, updates = network(), []
    for step, (inputs, targets) in enumerate(pairs(9, 4)):
        loss = nn.functional.cross_entropy(model(inputs), targets) / 4
        loss.backward()
        if accumulator.should_update_optimizer(step, loss):
            updates.append(step)
            twin = network()
            for copied, parameter in zip(twin.parameters(), model.parameters(), strict=True):
                copied.grad = parameter.grad.clone()
            before = accumulator.clip_gradients(model)
            parameters = list(twin.parameters())
            for group in [parameters] if by_global_norm else [[parameter] for parameter in parameters]:
                torch.nn.utils.clip_grad_norm_(group, 0.05)
            for clipped, expected in zip(model.parameters(), parameters, strict=True):
                torch.testing.assert_close(clipped.grad, expected.grad)
            found = accumulator.get_statistics()
            assert found["norm_before"] == found["norm_before_clip"] == before > 0.05
            assert found["norm_after"] <= 0.05 * (1 if by_global_norm else math.sqrt(4)) + 1e-6
            model.zero_grad()

    assert updates == [3, 7]
    assert [accumulator.get_effective_step(step) for step in (0, 3, 4, 8)] == [0, 0, 1, 2]
    stats = accumulator.stats
    assert (stats.global_step, stats.effective_step, stats.num_parameters) == (9, 2, 67)
    assert stats.accumulated_loss == pytest.approx(loss.item())


@pytest.mark.parametrize(
    "options, message",
    [
        ((0,), "accumulation_steps must be an integer of at least 1, got 0"),
        ((2.5,), "accumulation_steps must be an integer of at least 1, got 2.5"),
        (("4",), "accumulation_steps must be an integer of at least 1, got '4'"),
        ((1, 0.0), "max_gradient_norm must be above 0, got 0.0"),
    ],
)
def test_invalid_options_are_refused(options, message):
    """The message names the option and shows its value."""
    with pytest.raises(ValueError, match=message):
        GradientAccumulator(*options)


def test_defaults():
    """One batch per update, clipped to a global norm of 1."""
    accumulator = GradientAccumulator()

    assert (accumulator.accumulation_steps, accumulator.max_gradient_norm, accumulator.clip_by) == (1, 1.0, "norm")
