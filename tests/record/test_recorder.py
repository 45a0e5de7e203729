"""The record of a run, compared with what the run itself reports, and the log of all runs."""

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

SET_UP = 0.3  # seconds to build the model


class Slow(torch.nn.Linear):
    """A model that is slow to move to its device."""

    seconds = SET_UP

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Wait."""
        time.sleep(self.seconds)
        return super().to(*args, **kwargs)


class Ends:
    """Keeps the outcome and the time that the console would show; fails at a step, if one is given."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at

    def dovetail_run_start(self, run: Any) -> None:
        """Keep the time that the console would show at the start."""
        self.shown = Progress(run).elapsed()

    def dovetail_batch_end(self, step: int) -> None:
        """Fail at the given step."""
        if step == self.fail_at:
            raise RuntimeError("broken")

    def dovetail_run_end(self, outcome: Any) -> None:
        """Keep the outcome, and take a while."""
        self.outcome = outcome
        time.sleep(0.3)


def recorded(output: Path) -> float:
    """Return the seconds in ``run.json``."""
    seconds: float = json.loads((only_run(output) / "run.json").read_text(encoding="utf-8"))["duration_s"]
    return seconds


@pytest.mark.parametrize("fail_at", [None, 9])
def test_a_run_has_one_duration(tmp_path, fail_at):
    """Record, outcome, parts and console agree on the duration, which includes the set-up."""
    ends = Ends(fail_at)
    outcome = run(small(tmp_path, model=Slow(4, 3), callbacks={"ends": ends}))

    assert outcome.status == ("failed" if fail_at else "completed")
    assert outcome.total_time == ends.outcome.total_time
    assert recorded(tmp_path) == round(outcome.total_time, 3)
    assert SET_UP <= ends.shown <= outcome.total_time


def test_the_duration_continues_on_resume(tmp_path):
    """It includes the set-up of every process and the time up to the checkpoint."""
    config = small(tmp_path, model=Slow(4, 3), callbacks={"ends": Ends(9)}, checkpoint={"every": {"steps": 7}})
    run(config)
    saved = json.loads((only_run(tmp_path) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["time"]
    ends = Ends()
    config = small(tmp_path, model=Slow(4, 3), callbacks={"ends": ends}, checkpoint={"every": {"steps": 7}})
    outcome = resume(only_run(tmp_path), config).check()

    assert ends.shown >= saved + SET_UP
    assert recorded(tmp_path) == round(outcome.total_time, 3)
    assert outcome.total_time == ends.outcome.total_time >= ends.shown


def test_a_refused_run_has_a_duration(tmp_path):
    """A run that fails during the set-up is recorded with the time until then."""
    with pytest.raises(ConfigError):
        run(small(tmp_path, model=Slow(4, 3), trackers={"t": {"type": "jsonl", "every": {"steps": 3}}}))

    assert recorded(tmp_path) >= SET_UP


def test_the_budget_includes_the_set_up(tmp_path):
    """If building takes the whole budget, nothing is trained: a rented machine costs from the start."""
    model = Slow(4, 3)
    model.seconds = 1.0
    outcome = run(small(tmp_path, model=model, budget={"wall_clock": "1s"}))

    assert outcome.status == "out_of_budget"
    assert json.loads((only_run(tmp_path) / "run.json").read_text(encoding="utf-8"))["steps"] == 0


def test_every_run_has_a_line_in_runs_md(tmp_path):
    """The log of all runs has the status, results and folder of each run."""
    for epochs in (1, 2):
        run(small(tmp_path, training={"max_epochs": epochs}, trackers={"db": {"type": "sqlite"}})).check()
    heading, rule, *written = (tmp_path / "runs.md").read_text().splitlines()

    assert [cell.strip() for cell in heading.split("|")[1:4]] == ["started (UTC)", "run", "status"]
    assert set(rule) == {"|", "-"}
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in written]
    assert [(row[2], row[3]) for row in cells] == [("completed", "1"), ("completed", "2")]
    for row in cells:
        place = row[1].partition("](")[2].rstrip(")")
        record = json.loads((tmp_path / place / "run.json").read_text())
        assert record["config_hash"].startswith(row[7])
