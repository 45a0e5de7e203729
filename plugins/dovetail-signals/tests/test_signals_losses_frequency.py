"""Frequency consistency, on simulated bearings."""

from __future__ import annotations

import torch

from dovetail import ModelOutput
from dovetail.ops import frequency_consistency
from dovetail_signals.geometry import bearing
from dovetail_signals.losses.frequency import FrequencyConsistencyLoss

ORDERS = bearing("SKF-6205").orders()


EXPECTED = {"1": [ORDERS.bpfo], "2": [ORDERS.bpfi]}


def scored(logits):
    """Return outputs with these logits."""
    return ModelOutput.from_raw(torch.as_tensor(logits, dtype=torch.float32))


def envelope(signals):
    """Return the squared signal, in which impacts show at their own rate instead of at the resonance."""
    squared = signals**2
    return squared - squared.mean(-1, keepdim=True)


def test_the_penalty_is_least_for_the_true_fault(rolling):
    """In the envelope of simulated recordings at 1700 to 1800 rpm, from ``meta.signal``."""
    loss = FrequencyConsistencyLoss(EXPECTED, 12_000, 0.02, unit="orders", harmonics=2)
    meta = {**rolling["meta"], "signal": envelope(rolling["inputs"])}
    batch = {**rolling, "meta": meta, "inputs": torch.zeros(12, 3, 8, 8)}

    penalties = loss.penalties(torch.zeros(12, 3), batch)

    faulty = rolling["targets"] > 0
    assert torch.equal(penalties[faulty].argmin(1), rolling["targets"][faulty])


def test_physics_alone_finds_the_faults(rolling):
    """Without labels, gradient descent on the loss leads the logits to the true faults."""
    loss = FrequencyConsistencyLoss(EXPECTED, 12_000, 0.02, unit="orders", harmonics=2)
    batch = {**rolling, "inputs": envelope(rolling["inputs"])}
    logits = torch.zeros(12, 3, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=20.0)
    for _ in range(50):
        optimizer.zero_grad()
        loss(ModelOutput.from_raw(logits), batch).total.backward()
        optimizer.step()

    faulty = rolling["targets"] > 0
    assert torch.equal(logits.detach().argmax(1)[faulty], rolling["targets"][faulty])


def test_frequency_consistency_is_the_op(rolling):
    """The loss equals the op with bands in Hz."""
    loss = FrequencyConsistencyLoss({1: [107.0], 2: [162.0]}, 12_000, bands={1: [[2500.0, 2600.0]]})
    logits = torch.randn(12, 3)

    found = loss(scored(logits), rolling)

    torch.testing.assert_close(found.total, frequency_consistency(logits, loss.penalties(logits, rolling)))
    assert found.weight == 12
