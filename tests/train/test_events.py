"""Alerts of a run: epochs of another length than planned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dovetail.main import run
from dovetail.train.trainer import StandardTrainer
from small_runs import only_run, small


class StopAt:
    """A callback that asks for the end after an update."""

    def __init__(self, step: int) -> None:
        self.step = step

    def dovetail_batch_end(self, run: Any, step: int) -> None:
        """Ask."""
        if step == self.step:
            run.request_stop("that is enough", by="test", status="interrupted")


class Singles(StandardTrainer):
    """Trains on 20 batches of 5 samples in an epoch, where the loader has 7."""

    def batches(self, run):
        """Return them in an order of the epoch's own."""
        order = torch.randperm(100, generator=torch.Generator().manual_seed(run.state.epoch))
        for chosen in list(order.split(5))[run.state.batch :]:
            yield run.parts.loaders.train.reread(run.state.epoch, chosen.numpy())


class Counted(Singles):
    """Says so."""

    def num_batches(self, loader):
        """Count."""
        return len(loader.dataset) // 5


def alerts(output: Path, kind: str) -> list[str]:
    """Return what the only run alerted of."""
    file = only_run(output) / "alerts.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [one["message"] for one in lines if one["type"] == kind]


def rates(output: Path) -> list[float]:
    """Return the learning rate at the end of each epoch."""
    lines = (only_run(output) / "metrics.jsonl").read_text().splitlines()
    return [one["metrics"]["lr"] for line in lines if (one := json.loads(line))["event"] == "epoch"]


COSINE = {"type": "cosine", "every": "update"}


def test_a_schedule_is_as_long_as_the_batches_that_a_trainer_counts(tmp_path):
    """With ``num_batches`` a cosine is half-way after half of the run, and nobody is warned."""
    run(small(tmp_path, trainer=Counted(), scheduler=COSINE)).check()
    half, end = rates(tmp_path)
    assert half == pytest.approx(0.005, rel=0.01)
    assert end < 1e-4
    assert not alerts(tmp_path, "epoch_length")


def test_epochs_of_another_length_than_planned_are_told_once(tmp_path):
    """Without it the schedule is over too early, and the alert says by how much and what helps."""
    run(small(tmp_path, trainer=Singles(), scheduler=COSINE)).check()
    (told,) = alerts(tmp_path, "epoch_length")
    assert "epoch 1 had 20 updates, not 7" in told
    assert "end after 14 updates" in told
    assert "num_batches(loader)" in told


def test_epochs_of_the_loaders_length_are_not_told(tmp_path):
    """Not with accumulation that leaves a short group, not where max_steps ends an epoch, not where one stops."""
    run(small(tmp_path, training={"max_steps": 9, "accumulate": 2}), listeners=[StopAt(7)]).check()
    assert not alerts(tmp_path, "epoch_length")
