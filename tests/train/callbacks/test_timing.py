"""The timing callback in real runs: its sums, and no calls that nobody asked for."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from dovetail.main import resume, run
from dovetail.train.callbacks.timing import BatchTiming, Timing, timing
from small_runs import only_run, small

SLOW = 0.05  # extra seconds of the slow update


class Slow:
    """Makes the third update slow, counts updates, and stops after ``stop_at``."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at

    def dovetail_batch_start(self, step: int) -> None:
        """Wait."""
        if step == 2:
            time.sleep(SLOW)

    def dovetail_batch_end(self, run: Any, step: int) -> None:
        """Interrupt the run."""
        if step == self.stop_at:
            run.request_stop("enough", by="test", status="interrupted")


def monitored(output: Path) -> list[dict[str, float]]:
    """Return the monitor's figures, epoch by epoch."""
    lines = (only_run(output) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["metrics"] for line in map(json.loads, lines) if line["event"] == "monitor"]


def test_epochs_are_timed_without_calls_per_update(tmp_path, caplog):
    """The log has the average."""
    callback = timing()
    with caplog.at_level(logging.INFO, "dovetail.train"):
        outcome = run(small(tmp_path, callbacks={"timing": callback})).check()

    assert type(callback) is Timing
    assert not hasattr(callback, "dovetail_batch_start")
    assert not hasattr(callback, "dovetail_batch_end")
    assert len(callback.epochs) == 2
    assert sum(callback.epochs) <= outcome.total_time
    assert callback.updates == [seconds / 7 for seconds in callback.epochs]
    assert "epoch 2 took" in caplog.text
    assert monitored(tmp_path) == []


def test_every_update_is_timed_on_request(tmp_path):
    """A slow update is the maximum, not the median; the time between updates is the rest of the epoch."""
    run(
        small(tmp_path, callbacks={"timing": {"type": "timing", "batches": True, "verbose": False}, "s": Slow()})
    ).check()
    first, second = monitored(tmp_path)

    assert first["update_time_max"] >= SLOW
    assert first["update_time_max"] > first["update_time_median"]
    for figures in (first, second):
        assert 0 < figures["update_time_median"] <= figures["update_time_p95"] <= figures["update_time_max"]
        assert figures["time_between_updates"] >= 0


def test_a_resumed_run_continues_the_times(tmp_path):
    """Updates before the stop count in their epoch."""
    callback = timing(batches=True)
    assert isinstance(callback, BatchTiming)
    run(small(tmp_path, callbacks={"timing": callback, "slow": Slow(stop_at=4)}))
    before, callback = callback.laps, timing(batches=True)
    resume(
        only_run(tmp_path), small(tmp_path, training={"max_epochs": 1}, callbacks={"timing": callback, "slow": Slow()})
    )
    (epoch,) = monitored(tmp_path)

    assert len(before) == 4
    assert callback.laps[:4] == before
    assert len(callback.laps) == 7
    assert epoch["update_time_max"] >= before[2] >= SLOW
    assert callback.epochs[0] == pytest.approx(sum(callback.laps) + epoch["time_between_updates"])
