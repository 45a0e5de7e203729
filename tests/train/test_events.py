"""Events between updates and after epochs: epochs of another length than planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dovetail.main import run
from small_runs import CountedBatches, SmallBatches, StopAt, alerts, only_run, small


def rates(output: Path) -> list[float]:
    """Return the learning rate at the end of each epoch."""
    lines = (only_run(output) / "metrics.jsonl").read_text().splitlines()
    return [event["metrics"]["lr"] for line in lines if (event := json.loads(line))["event"] == "epoch"]


COSINE = {"type": "cosine", "every": "update"}


def test_num_batches_sets_the_length_of_schedules(tmp_path):
    """A cosine is half-way after half of the run, and there is no alert."""
    run(small(tmp_path, trainer=CountedBatches(), scheduler=COSINE)).check()
    half, end = rates(tmp_path)
    assert half == pytest.approx(0.005, rel=0.01)
    assert end < 1e-4
    assert not alerts(tmp_path, "epoch_length")


def test_epochs_of_another_length_than_planned_are_an_alert(tmp_path):
    """Without ``num_batches`` the schedule ends too early; one alert says when, and what to override."""
    run(small(tmp_path, trainer=SmallBatches(), scheduler=COSINE)).check()
    (message,) = alerts(tmp_path, "epoch_length")
    assert "epoch 1 had 20 updates, not 7" in message
    assert "end after 14 updates" in message
    assert "num_batches(loader)" in message


def test_epochs_of_the_loaders_length_are_no_alert(tmp_path):
    """Nor are a last update of fewer batches, and an epoch that ``max_steps`` or a stop ends."""
    run(small(tmp_path, training={"max_steps": 9, "accumulate": 2}), listeners=[StopAt(7)]).check()
    assert not alerts(tmp_path, "epoch_length")
