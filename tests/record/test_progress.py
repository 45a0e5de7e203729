"""The progress of a run: epoch, throughput, time left, losses and the best metric."""

from __future__ import annotations

import math
from types import SimpleNamespace

from dovetail.record import progress as module
from dovetail.record.progress import Progress
from run_stub import a_run


def test_throughput_and_time_left_follow_the_counters(tmp_path, monkeypatch):
    """Both are averages since the start, or since the run resumed; before the first step they are unknown."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    run = a_run(tmp_path, step=10, samples_seen=320)
    progress = Progress(run)
    assert progress.throughput() is None
    assert progress.seconds_left() == math.inf

    clock.now, run.state.step, run.state.samples_seen = 104.0, 20, 640
    progress.sample_counters()

    assert progress.throughput() == 80.0
    assert progress.seconds_left() == 4.0
    assert (progress.step, progress.steps, progress.epochs) == (20, 30, 3)


def test_the_history_of_a_loss_has_values_of_one_kind_of_event(tmp_path):
    """The losses of updates are not mixed with those of epochs; the most frequent kind is returned."""
    progress = Progress(a_run(tmp_path))
    for loss in (3.0, 2.0):
        progress.add("train", {"train_loss": loss, "lr": 0.1})
    progress.add("epoch", {"train_loss": 2.5})

    assert progress.history("train_loss") == [3.0, 2.0]
    assert progress.history("val_loss") == []
    assert progress.metrics == {"train_loss": 2.5, "lr": 0.1}


def test_the_best_metric_has_its_epoch(tmp_path):
    """Before the first validation there is none; the newest validation is the best if it was at this step."""
    run = a_run(tmp_path, step=5)
    progress = Progress(run)
    assert progress.best() == ""
    assert not progress.is_best()

    run.state.best_metric, run.state.best_epoch, run.state.best_step = 0.25, 2, 5
    assert progress.best() == "val_loss 0.25 in epoch 2"
    assert progress.is_best()
