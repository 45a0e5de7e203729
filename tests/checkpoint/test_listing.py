"""Tests of listing a folder of checkpoints, and of its history."""

from __future__ import annotations

import json
import math

import pytest
import torch

from dovetail.checkpoint.listing import next_path
from dovetail.checkpoint.store import CheckpointStore


def save(store, step, value=None, **metrics):
    """Save a small checkpoint with a monitored value."""
    if value is not None:
        metrics[store.monitor] = value
    state = {"model": {"w": torch.full((3,), float(step))}, "step": step}
    return store.save(step=step, epoch=step // 10 + 1, metrics=metrics, state=state)


def test_steps_sort_as_numbers(tmp_path):
    """Without a history to give the order, even beyond eight digits."""
    store = CheckpointStore(tmp_path)
    for step in (999_999_999, 1, 100_000_000_000):
        save(store, step)
    (tmp_path / "history.json").unlink()
    store = CheckpointStore(tmp_path)

    assert [checkpoint.step for checkpoint in store.list()] == [1, 999_999_999, 100_000_000_000]


@pytest.mark.parametrize(
    "content", ["{}", "[1]", '[{"name": "../x"}]', '[{"name": "step-1", "metrics": {}}]', "[" * 100_000, "\ud800"]
)
def test_a_damaged_history_is_replaced(tmp_path, content):
    """A new one starts with the existing checkpoints."""
    save(CheckpointStore(tmp_path), 1, 0.5)
    (tmp_path / "history.json").write_bytes(content.encode("utf-8", "surrogatepass"))

    assert [checkpoint.step for checkpoint in CheckpointStore(tmp_path).history()] == [1]


def test_history_as_a_data_frame(tmp_path):
    """It has one row per checkpoint, and one column per metric."""
    store = CheckpointStore(tmp_path)
    assert store.history_frame().empty
    save(store, 10, 0.5)
    save(store, 20, 0.4, val_accuracy=0.9)

    frame = store.history_frame()

    assert frame["epoch"].tolist() == [2, 3]
    assert frame["val_loss"].tolist() == [0.5, 0.4]
    assert frame["is_best"].tolist() == [False, True]
    assert math.isnan(frame["val_accuracy"][0])
    assert frame["path"].tolist() == [str(tmp_path / "step-00000010"), str(tmp_path / "step-00000020")]


def test_the_history_file_is_plain_json(tmp_path):
    """Any tool can read it; NaN, which JSON lacks, is text."""
    save(CheckpointStore(tmp_path), 1, math.nan)

    (record,) = json.loads((tmp_path / "history.json").read_text(), parse_constant=pytest.fail)

    assert (record["name"], record["step"], record["metrics"]) == ("step-00000001", 1, {"val_loss": "nan"})


def test_the_next_path_is_new(tmp_path):
    """It avoids both existing folders and names in the history."""
    (tmp_path / "step-00000007").mkdir()

    assert next_path(tmp_path, 8).name == "step-00000008"
    assert next_path(tmp_path, 7).name == "step-00000007-2"
    assert next_path(tmp_path, 7, ["step-00000007-4", "step-00000006-9"]).name == "step-00000007-5"
