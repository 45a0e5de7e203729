"""Which checkpoint is the best."""

from __future__ import annotations

import math
from typing import Any

from dovetail.main import run
from small_runs import Keep, of_kind, only_run, small


def test_a_score_is_maximised(tmp_path):
    """``mode = "auto"`` goes by the metric's name; checkpoints and the outcome agree on the best."""
    keep = Keep()
    config = small(tmp_path, checkpoint={"monitor": "val_accuracy"}, callbacks={"keep": keep})
    outcome = run(config).check()
    best = keep.run.checkpoints.best()

    assert (
        best.metrics["val_accuracy"]
        == outcome.best_metric
        == max(line["metrics"]["val_accuracy"] for line in of_kind(tmp_path, "validation"))
    )
    assert best.epoch == outcome.best_epoch


def test_a_misspelt_monitor_is_refused_before_the_first_update(tmp_path):
    """The names of the figures are known after one batch of validation."""
    outcome = run(small(tmp_path, checkpoint={"monitor": "val_acuracy"}))

    assert outcome.status == "failed"
    assert "checkpoint.monitor: there is no metric 'val_acuracy'; did you mean 'val_accuracy'?" in outcome.reason
    assert not (only_run(tmp_path) / "metrics.jsonl").exists()


def test_nan_is_never_the_best(tmp_path):
    """Not even as the first value."""
    values = iter([math.nan, 0.5, math.nan, 0.9])

    class Odd:
        def update(self, outputs: Any, batch: Any) -> None:
            """Do nothing."""

        def compute(self) -> dict[str, float]:
            return {"odd": next(values, 0.0)}

        def reset(self) -> None:
            """Do nothing."""

    config = small(
        tmp_path,
        metrics={"odd": Odd()},
        training={"max_epochs": 3, "test": False},
        checkpoint={"monitor": "val_odd", "mode": "min"},
    )
    outcome = run(config).check()

    assert (outcome.best_epoch, outcome.best_metric) == (
        1,
        0.5,
    )  # the trial evaluation got the first NaN
