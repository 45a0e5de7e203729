"""Metrics as JSON lines in a file that the user chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dovetail.main import resume, run
from dovetail.train.callbacks.metric_logger import MetricLogger
from small_runs import StopAt, of_kind, only_run, small


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_metrics_of_epochs_are_written(tmp_path):
    """After every so many epochs, with those of metrics.jsonl; the file is inside the run's folder."""
    logger = MetricLogger(Path("more/metrics.jsonl"), log_interval=2)
    run(small(tmp_path, callbacks={"log": logger}, training={"max_epochs": 5})).check()

    epochs = [line for line in of_kind(tmp_path, "epoch") if line["epoch"] in {2, 4}]
    expected = [{"epoch": line["epoch"], "step": line["step"], **line["metrics"]} for line in epochs]
    assert lines(only_run(tmp_path) / "more" / "metrics.jsonl") == expected
    assert len(expected) == 2


@pytest.mark.parametrize("inside", [True, False])
def test_a_resumed_run_writes_no_line_twice(tmp_path, inside):
    """Lines after the checkpoint are removed from its own file; a file elsewhere may have other writers."""

    def config() -> Any:
        path = Path("log.jsonl") if inside else tmp_path / "log.jsonl"
        logger = {"type": "metric_logger", "log_file": str(path)}
        return small(tmp_path, callbacks={"log": logger}, training={"max_epochs": 3})

    run(config(), listeners=[StopAt(10)])
    path = (only_run(tmp_path) if inside else tmp_path) / "log.jsonl"
    with path.open("a") as file:
        file.write('{"epoch": 9}\n')
    resume(only_run(tmp_path), config()).check()

    assert [line["epoch"] for line in lines(path)] == [1, *([] if inside else [9]), 2, 3]


def test_a_file_that_cannot_be_written_fails_before_training(tmp_path):
    """The outcome names the callback."""
    (tmp_path / "file").touch()
    outcome = run(small(tmp_path, callbacks={"log": MetricLogger(tmp_path / "file" / "log.jsonl")}))

    assert outcome.status == "failed"
    assert "callbacks.log failed in dovetail_run_start" in outcome.reason
    assert not (only_run(tmp_path) / "metrics.jsonl").exists()
