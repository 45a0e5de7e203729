"""The record's figures against what the run itself says."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dovetail.config.diagnostics import ConfigError
from dovetail.main import resume, run
from dovetail.record.progress import Progress
from small_runs import only_run, small

SET_UP = 0.3  # seconds that building the model takes


class Slow(torch.nn.Linear):
    """A model that takes its time to be put on its device."""

    seconds = SET_UP

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Wait."""
        time.sleep(self.seconds)
        return super().to(*args, **kwargs)


class Ends:
    """Keeps what it is told at the end, which takes a while; fails before that where it is told to."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at

    def dovetail_run_start(self, run: Any) -> None:
        """Keep what the console would show at the start."""
        self.shown = Progress(run).elapsed()

    def dovetail_batch_end(self, step: int) -> None:
        """Fail."""
        if step == self.fail_at:
            raise RuntimeError("broken")

    def dovetail_run_end(self, outcome: Any) -> None:
        """Keep it."""
        self.outcome = outcome
        time.sleep(0.3)


def recorded(output: Path) -> float:
    """Return the seconds in ``run.json``."""
    seconds: float = json.loads((only_run(output) / "run.json").read_text(encoding="utf-8"))["duration_s"]
    return seconds


@pytest.mark.parametrize("fail_at", [None, 9])
def test_a_run_has_one_time(tmp_path, fail_at):
    """Of the record, the outcome, the parts and the console: from the start, set-up included, until all is trained."""
    ends = Ends(fail_at)
    outcome = run(small(tmp_path, model=Slow(4, 3), callbacks={"ends": ends}))

    assert outcome.status == ("failed" if fail_at else "completed")
    assert outcome.total_time == ends.outcome.total_time
    assert recorded(tmp_path) == round(outcome.total_time, 3)
    assert SET_UP <= ends.shown <= outcome.total_time


def test_the_time_goes_on_with_the_run(tmp_path):
    """Every process's set-up counts, and so do the seconds up to the checkpoint."""
    config = small(tmp_path, model=Slow(4, 3), callbacks={"ends": Ends(9)}, checkpoint={"every": {"steps": 7}})
    run(config)
    saved = json.loads((only_run(tmp_path) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["time"]
    ends = Ends()
    config = small(tmp_path, model=Slow(4, 3), callbacks={"ends": ends}, checkpoint={"every": {"steps": 7}})
    outcome = resume(only_run(tmp_path), config).check()

    assert ends.shown >= saved + SET_UP
    assert recorded(tmp_path) == round(outcome.total_time, 3)
    assert outcome.total_time == ends.outcome.total_time >= ends.shown


def test_a_run_that_is_refused_took_its_time_too(tmp_path):
    """What fails in the set-up is recorded with the seconds up to there."""
    with pytest.raises(ConfigError):
        run(small(tmp_path, model=Slow(4, 3), trackers={"t": {"type": "jsonl", "every": {"steps": 3}}}))

    assert recorded(tmp_path) >= SET_UP


def test_the_budget_counts_the_set_up(tmp_path):
    """A machine that is lent for a time is lent from the start: nothing is trained where building took all of it."""
    model = Slow(4, 3)
    model.seconds = 1.0
    outcome = run(small(tmp_path, model=model, budget={"wall_clock": "1s"}))

    assert outcome.status == "out_of_budget"
    assert json.loads((only_run(tmp_path) / "run.json").read_text(encoding="utf-8"))["steps"] == 0
