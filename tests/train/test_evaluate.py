"""Validation and test: modes of layers and names of metrics."""

from __future__ import annotations

from typing import Any

from torch import nn

from dovetail.main import run
from small_runs import small


def test_layers_that_were_frozen_in_eval_mode_stay_so(tmp_path):
    """Validation gives every layer back the mode it had."""
    modes: list[bool] = []

    class Freeze:
        def dovetail_epoch_start(self, run: Any) -> None:
            run.parts.model[1].eval()

        def dovetail_batch_end(self, run: Any) -> None:
            modes.append(run.parts.model[1].training)

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    run(small(tmp_path, model=model, callbacks={"freeze": Freeze()}, training={"validate_every": {"steps": 2}})).check()

    assert not any(modes)
    assert len(modes) == 14


def test_two_metrics_of_one_kind_are_told_apart(tmp_path):
    """The second is named by its place in the run file."""
    metrics = {"accuracy": {"type": "accuracy"}, "strict": {"type": "accuracy"}}
    outcome = run(small(tmp_path, metrics=metrics)).check()

    assert outcome.metrics["val_accuracy"] == outcome.metrics["val_strict_accuracy"]
