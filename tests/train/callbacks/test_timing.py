"""The timing callback in real runs: what it adds up to, and what it costs where nobody asked."""

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

SLOW = 0.05  # seconds that one update takes longer than the others


class Slow:
    """Makes the third update slow, and counts them; stops after ``stop_at``."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at

    def dovetail_batch_start(self, step: int) -> None:
        """Wait."""
        if step == 2:
            time.sleep(SLOW)

    def dovetail_batch_end(self, run: Any, step: int) -> None:
        """Stop as a signal does."""
        if step == self.stop_at:
            run.request_stop("enough", by="test", status="interrupted")


def monitored(output: Path) -> list[dict[str, float]]:
    """Return the monitor's figures, epoch by epoch."""
    lines = (only_run(output) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [one["metrics"] for one in map(json.loads, lines) if one["event"] == "monitor"]


def test_epochs_are_timed_and_nothing_is_called_for_an_update(tmp_path, caplog):
    """Unless it is asked for; the log tells the average."""
    callback = timing()
    with caplog.at_level(logging.INFO, "dovetail.train"):
        outcome = run(small(tmp_path, callbacks={"timing": callback})).check()

    assert type(callback) is Timing
    assert not hasattr(callback, "dovetail_batch_start")
    assert not hasattr(callback, "dovetail_batch_end")
    assert len(callback.epochs) == 2
    assert sum(callback.epochs) <= outcome.total_time
    assert callback.updates == [one / 7 for one in callback.epochs]
    assert "epoch 2 took" in caplog.text
    assert monitored(tmp_path) == []


def test_every_update_is_timed_where_that_is_asked_for(tmp_path):
    """A slow one is the longest and not the median; what is between updates is the rest of the epoch."""
    run(
        small(tmp_path, callbacks={"timing": {"type": "timing", "batches": True, "verbose": False}, "s": Slow()})
    ).check()
    first, second = monitored(tmp_path)

    assert first["update_time_max"] >= SLOW
    assert first["update_time_max"] > first["update_time_median"]
    for one in (first, second):
        assert 0 < one["update_time_median"] <= one["update_time_p95"] <= one["update_time_max"]
        assert one["time_between_updates"] >= 0


def test_the_times_go_on_with_a_resumed_run(tmp_path):
    """The updates before the stop count in their epoch."""
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
