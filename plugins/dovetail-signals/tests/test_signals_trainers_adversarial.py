"""Adversarial training."""

from __future__ import annotations

import pytest

from signals_runs import train


def test_both_parts_of_the_loss_are_logged(tmp_path):
    """The adversarial samples have the larger loss, and the total is the mean of both."""
    metrics = train(
        tmp_path, {"type": "signals.cnn1d", "channels": [4, 8]}, {"type": "signals.adversarial", "epsilon": 0.05}
    ).metrics

    assert metrics["train_adversarial"] > metrics["train_clean"]
    assert metrics["train_loss"] == pytest.approx((metrics["train_clean"] + metrics["train_adversarial"]) / 2, rel=1e-4)
