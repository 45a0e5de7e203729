"""The history of learning rates."""

from __future__ import annotations

import torch
from torch import nn

from dovetail.main import resume, run
from dovetail.train.callbacks.lr_monitor import LearningRateMonitor
from small_runs import StopAt, of_kind, only_run, small


def test_rates_of_every_group_are_recorded_per_epoch(tmp_path):
    """They are those of metrics.jsonl, although the scheduler has stepped since."""
    monitor, model = LearningRateMonitor(log_interval=2), nn.Linear(4, 3)
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}]
    sections = {"model": model, "optimizer": torch.optim.SGD(groups), "scheduler": {"type": "cosine"}}
    run(small(tmp_path, callbacks={"rates": monitor}, training={"max_epochs": 4}, **sections)).check()

    logged = {
        line["epoch"]: [line["metrics"]["lr"], line["metrics"]["lr_group1"]] for line in of_kind(tmp_path, "epoch")
    }
    assert monitor.history == [(epoch, logged[epoch]) for epoch in (2, 4)]
    assert 0 < logged[2][0] < logged[2][1]


def test_a_resumed_run_keeps_the_history(tmp_path):
    """Each epoch is there once."""
    monitors = [LearningRateMonitor(), LearningRateMonitor()]
    first, second = (small(tmp_path, callbacks={"rates": monitor}, training={"max_epochs": 3}) for monitor in monitors)
    run(first, listeners=[StopAt(10)])
    resume(only_run(tmp_path), second).check()

    assert [epoch for epoch, _ in monitors[1].history] == [1, 2, 3]
