"""Adversarial training."""

from __future__ import annotations

import pytest

from signals_runs import train


def test_adversarial_training_resists_the_attack(tmp_path):
    """Its two parts are logged, the changed samples being the harder ones."""
    metrics = train(
        tmp_path, {"type": "signals.cnn1d", "channels": [4, 8]}, {"type": "signals.adversarial", "epsilon": 0.05}
    ).metrics

    assert metrics["train_adversarial"] > metrics["train_clean"]
    assert metrics["train_loss"] == pytest.approx((metrics["train_clean"] + metrics["train_adversarial"]) / 2, rel=1e-4)
