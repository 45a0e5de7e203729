"""Early stopping: when a run ends, what counts as an improvement, and the state of a resumed run."""

from __future__ import annotations

import json
import math
import types

import pytest

from dovetail.data import Splits
from dovetail.main import run
from dovetail.train.callbacks.early_stopping import EarlyStopping
from dovetail.train.errors import TrainingError
from small_runs import blobs, only_run, small


class Asked:
    """Stands for the run, and notes requests to stop."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.state = types.SimpleNamespace(epoch=0)
        self.config = types.SimpleNamespace(checkpoint=types.SimpleNamespace(monitor="val_loss", mode="auto"))
        self.parts = types.SimpleNamespace(metrics={})

    def request_stop(self, reason: str, by: object) -> None:
        """Note the request."""
        self.reasons.append(reason)


def feed(stopping: EarlyStopping, values: list[float], metric: str = "val_loss") -> Asked:
    """Validate once per value."""
    asked = Asked()
    for value in values:
        asked.state.epoch += 1
        stopping.dovetail_validation_end(asked, {metric: value})
    return asked


@pytest.mark.parametrize(
    "values,patience,min_delta,stops",
    [
        ([3.0, 2.0, 1.0], 1, 0.0, 0),
        ([1.0, 2.0, 2.0], 2, 0.0, 1),
        ([1.0, 2.0, 0.5, 2.0], 2, 0.0, 0),
        ([1.0, 1.0], 1, 0.0, 1),
        ([1.0, 0.95], 1, 0.1, 1),
        ([1.0, 0.85], 1, 0.1, 0),
        ([math.nan, math.nan], 2, 0.0, 1),
        ([1.0, 2.0], 0, 0.0, 1),
    ],
)
def test_patience_counts_checks_without_improvement(values, patience, min_delta, stops):
    """Ties, NaN and improvements below ``min_delta`` do not count; an improvement restarts the count."""
    assert len(feed(EarlyStopping(mode="min", patience=patience, min_delta=min_delta), values).reasons) == stops


def test_a_run_ends_with_the_reason_and_the_best_value(tmp_path):
    """With a learning rate of 0 nothing improves after the first epoch."""
    config = small(
        tmp_path,
        optimizer={"type": "sgd", "lr": 1e-30},
        training={"max_epochs": 9},
        callbacks={"patience": {"type": "early_stopping", "patience": 2}},
    )
    outcome = run(config).check()

    assert outcome.status == "stopped_early"
    assert outcome.stopped_by == "callbacks.patience"
    assert "val_loss has not improved for 2 validations (best " in outcome.reason
    assert json.loads((only_run(tmp_path) / "run.json").read_text())["epochs"] == 3


def test_a_metric_that_does_not_exist_is_named():
    """The message suggests the nearest."""
    with pytest.raises(TrainingError, match="there is no metric 'val_los'; did you mean 'val_loss'"):
        EarlyStopping("val_los").dovetail_validation_end(Asked(), {"val_loss": 1.0})


def test_training_metrics_are_checked_after_each_epoch():
    """A validation does not count for them."""
    stopping, asked = EarlyStopping("train_loss", patience=1, mode="min"), Asked()
    for _ in range(3):
        stopping.dovetail_validation_end(asked, {"val_loss": 1.0})
    stopping.dovetail_epoch_end(asked, {"train_loss": 1.0})
    assert asked.reasons == []

    stopping.dovetail_epoch_end(asked, {"train_loss": 1.0})
    assert asked.reasons == ["train_loss has not improved for 1 epoch (best 1 in epoch 0)"]


def test_without_a_validation_split_an_alert_says_so(tmp_path):
    """The run completes, and the alert names a metric that works."""
    config = small(
        tmp_path,
        data=Splits(blobs(48)),
        callbacks={"patience": {"type": "early_stopping"}},
        training={"test": False, "max_epochs": 2},
    )
    outcome = run(config).check()

    assert outcome.status == "completed"
    text = (only_run(tmp_path) / "alerts.jsonl").read_text()
    assert "there is no validation split, so val_loss is never measured" in text


def test_a_resumed_run_continues_the_count():
    """A checkpoint holds the best value and the checks since."""
    first = EarlyStopping(mode="min", patience=3)
    feed(first, [1.0, 2.0])
    second = EarlyStopping(mode="min", patience=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))

    assert len(feed(second, [2.0]).reasons) == 0
    assert len(feed(second, [2.0]).reasons) == 1
