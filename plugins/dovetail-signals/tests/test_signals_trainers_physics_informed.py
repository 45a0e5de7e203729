"""Physics-informed training: schedules and balances."""

from __future__ import annotations

import math

import pytest
from torch import nn

from dovetail import LossResult
from dovetail_signals.trainers.physics_informed import PhysicsInformedTrainer, ramp
from signals_runs import train


class Constraint(nn.Module):
    """Cross-entropy plus a strong, a medium and a weak term, all multiples of the mean square of the logits."""

    def __init__(self):
        super().__init__()
        self.lambda_freq, self.lambda_sommerfeld, self.lambda_temporal = 1.0, 1.0, 1.0
        self.seen, self.judged = [], []

    def forward(self, outputs, batch):
        """Return the sum and its parts."""
        entropy = nn.functional.cross_entropy(outputs.logits, batch["targets"])
        term = outputs.logits.square().mean()
        factors = (self.lambda_freq, self.lambda_sommerfeld, self.lambda_temporal)
        (self.seen if self.training else self.judged).append(factors)
        total = entropy + term * (100 * factors[0] + factors[1] + 0.01 * factors[2])
        parts = {"classification": entropy, "frequency": 100 * term, "sommerfeld": term, "temporal": 0.01 * term}
        return LossResult(total, parts, len(outputs.logits))


@pytest.mark.parametrize("schedule, half", [("linear", 0.5), ("cosine", 0.5), ("exponential", 0.0759), ("constant", 1)])
def test_schedules(schedule, half):
    """Each rises to 1 and has the right value half-way."""
    values = [ramp(step / 10, schedule) for step in range(11)]

    assert values[-1] == pytest.approx(1)
    assert values == sorted(values)
    assert values[5] == pytest.approx(half, abs=1e-3)


def test_factors_follow_the_schedule(tmp_path):
    """Without balance, an epoch's factors are the final ones times the schedule, and are in the history."""
    loss = Constraint()
    trainer = PhysicsInformedTrainer(lambda_freq=2.0, adaptive_lambda=False)
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, loss, epochs=4)

    assert [factors["freq"] for factors in trainer.history] == [0.5, 1.0, 1.5, 2.0]
    assert sorted(set(loss.seen)) == [(0.5 * n, 0.25 * n, 0.25 * n) for n in (1, 2, 3, 4)]


def test_validation_uses_the_final_factors(tmp_path):
    """With rising factors alone, the first epoch would look best."""
    loss = Constraint()
    trainer = PhysicsInformedTrainer(lambda_freq=2.0)
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, loss, epochs=4)

    assert set(loss.judged) == {(2.0, 1.0, 1.0)}
    assert len(set(loss.seen)) == 4


def test_factors_default_to_the_losses(tmp_path):
    """A factor of 0 in the loss stays 0 unless the trainer sets it."""
    loss = Constraint()
    loss.lambda_sommerfeld, loss.lambda_temporal = 0.0, 0.3
    trainer = PhysicsInformedTrainer(lambda_freq=2.0, adaptive_lambda=False, lambda_schedule="constant")
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, loss)

    assert set(loss.seen) == {(2.0, 0.0, 0.3)}


@pytest.mark.parametrize("balance", ["loss_ratio", "gradient"])
def test_the_balance_equalises_the_terms(balance, tmp_path):
    """It moves each term towards the strength of the classification, and repeats between runs."""
    histories = []
    for _ in range(2):
        trainer = PhysicsInformedTrainer(
            lambda_freq=1.0, lambda_sommerfeld=1.0, lambda_temporal=1.0, lambda_schedule="constant", balance=balance
        )
        train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, trainer, Constraint(), epochs=3)
        histories.append(trainer.history)
    last = histories[0][-1]

    assert histories[0] == histories[1]
    assert last["freq"] < 1 < last["temporal"]
    assert all(math.isfinite(value) for value in last.values())
    other = PhysicsInformedTrainer()
    other.load_state_dict(trainer.state_dict())
    assert other.history == trainer.history


def test_a_loss_without_factors_raises_one_alert(tmp_path, caplog):
    """The alert names the loss to use."""
    train(tmp_path, {"type": "signals.cnn1d", "channels": [4]}, PhysicsInformedTrainer())
    messages = [record.getMessage() for record in caplog.records if "lambda_freq" in record.getMessage()]

    assert len(messages) == 1
    assert 'loss.type = "signals.physical_constraint"' in messages[0]
