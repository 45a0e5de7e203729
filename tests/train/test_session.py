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


def test_max_steps_ends_a_run_inside_an_epoch(tmp_path):
    """The last weights are validated and saved, whatever the cadence."""
    config = small(tmp_path, training={"max_epochs": None, "max_steps": 10, "validate_every": {"epochs": 50}})
    outcome = run(config).check()

    assert outcome.status == "completed"
    assert [(line["epoch"], line["step"]) for line in of_kind(tmp_path, "validation")] == [(2, 10)]
    assert [(line["epoch"], line["step"]) for line in of_kind(tmp_path, "epoch")] == [(1, 7), (2, 10)]
    assert [path.name for path in sorted((only_run(tmp_path) / "checkpoints").glob("step-*"))] == [
        "step-00000007",
        "step-00000010",
    ]


def test_validation_and_checkpoints_by_steps(tmp_path):
    """Every so many updates, at the end of an epoch too, and once more at the end of the run."""
    config = small(
        tmp_path,
        training={"validate_every": {"steps": 7}},
        checkpoint={"every": {"steps": 4}, "keep_best": 0, "keep_last": 99, "monitor": "train_loss"},
    )
    run(config).check()

    assert [line["step"] for line in of_kind(tmp_path, "validation")] == [7, 14]
    saved = sorted(int(path.name[5:]) for path in (only_run(tmp_path) / "checkpoints").glob("step-*"))
    assert saved == [4, 7, 8, 12, 14]  # 7 and 14: the best training loss so far


@pytest.mark.parametrize("minutes,number", [(0.0005, 7), (60, 1)])
def test_checkpoints_by_the_clock(tmp_path, minutes, number):
    """``minutes`` is checked between updates: there is one after each slow update, or one at the end."""

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

    assert len([call for call in calls.seen if call.startswith("saved")]) == number


def test_a_run_without_validation_and_test_keeps_its_last_weights(tmp_path):
    """Nothing is monitored and no checkpoint is the best; everything else works."""
    outcome = run(small(tmp_path, data=Splits(three_blobs().train))).check()

    assert (outcome.best_epoch, outcome.best_metric, outcome.test_metrics) == (None, None, {})
    assert set(outcome.metrics) == {"train_loss", "lr", "samples_per_second"}
    assert list((only_run(tmp_path) / "checkpoints").glob("step-00000014"))


def test_an_epoch_without_batches_fails(tmp_path):
    """Otherwise empty epochs would repeat forever."""

    class Empty(StandardTrainer):
        def batches(self, run: Any) -> Any:
            return []

    outcome = run(small(tmp_path, trainer=Empty(), training={"max_epochs": None, "max_steps": 5}))

    assert isinstance(outcome.error, TrainingError)
    assert "epoch 1 had no batches" in outcome.reason
