"""The loop over epochs: limits, validation and checkpoints at their cadence."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dovetail.data import Splits
from dovetail.main import run
from dovetail.train.errors import TrainingError
from dovetail.train.trainer import StandardTrainer
from small_runs import Calls, of_kind, only_run, small, three_blobs


def test_steps_bound_a_run_and_the_last_weights_are_validated(tmp_path):
    """max_steps ends a run in the middle of an epoch; what it ended with is measured and saved at any cadence."""
    config = small(tmp_path, training={"max_epochs": None, "max_steps": 10, "validate_every": {"epochs": 50}})
    outcome = run(config).check()

    assert outcome.status == "completed"
    assert [(one["epoch"], one["step"]) for one in of_kind(tmp_path, "validation")] == [(2, 10)]
    assert [(one["epoch"], one["step"]) for one in of_kind(tmp_path, "epoch")] == [(1, 7), (2, 10)]
    assert [one.name for one in sorted((only_run(tmp_path) / "checkpoints").glob("step-*"))] == [
        "step-00000007",
        "step-00000010",
    ]


def test_validation_and_checkpoints_by_steps(tmp_path):
    """Every so many updates, also where one falls on an epoch's end, and once more at the end of the run."""
    config = small(
        tmp_path,
        training={"validate_every": {"steps": 7}},
        checkpoint={"every": {"steps": 4}, "keep_best": 0, "keep_last": 99, "monitor": "train_loss"},
    )
    run(config).check()

    assert [one["step"] for one in of_kind(tmp_path, "validation")] == [7, 14]
    saved = sorted(int(one.name[5:]) for one in (only_run(tmp_path) / "checkpoints").glob("step-*"))
    assert saved == [4, 7, 8, 12, 14]  # 7 and 14: the best training loss so far


@pytest.mark.parametrize("minutes,number", [(0.0005, 7), (60, 1)])
def test_checkpoints_by_the_clock(tmp_path, minutes, number):
    """``minutes`` is looked at between updates: after each that takes longer, or else at the end alone."""

    class Slow:
        def dovetail_batch_end(self) -> None:
            time.sleep(0.04)

    calls = Calls()
    config = small(
        tmp_path,
        training={"max_epochs": 1, "test": False},
        checkpoint={"every": {"minutes": minutes}},
        callbacks={"slow": Slow(), "calls": calls},
    )
    run(config).check()

    assert len([one for one in calls.seen if one.startswith("saved")]) == number


def test_a_run_without_validation_and_test_keeps_its_last_weights(tmp_path):
    """Nothing is monitored, nothing is best, everything else works."""
    outcome = run(small(tmp_path, data=Splits(three_blobs().train))).check()

    assert (outcome.best_epoch, outcome.best_metric, outcome.test_metrics) == (None, None, {})
    assert set(outcome.metrics) == {"train_loss", "lr", "samples_per_second"}
    assert list((only_run(tmp_path) / "checkpoints").glob("step-00000014"))


def test_a_trainer_without_batches_is_told(tmp_path):
    """An empty epoch would repeat for ever."""

    class Empty(StandardTrainer):
        def batches(self, run: Any) -> Any:
            return []

    outcome = run(small(tmp_path, trainer=Empty(), training={"max_epochs": None, "max_steps": 5}))

    assert isinstance(outcome.error, TrainingError)
    assert "epoch 1 had no batches" in outcome.reason
