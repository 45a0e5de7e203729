"""The console: what it says while a run goes on and at its end, on a terminal and elsewhere."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.record import words
from dovetail.record.console import Console, summary
from dovetail.record.progress import Progress
from places import EXAMPLES, TESTS

EXAMPLE = EXAMPLES / "digits.toml"


def a_run(folder: Path, **state: object) -> SimpleNamespace:
    """Return what the console reads of a run: its counters, plan, settings and folder."""
    counters = {"epoch": 1, "step": 0, "samples_seen": 0, "best_metric": None, "best_epoch": None, "best_step": None}
    section = SimpleNamespace
    return section(
        state=section(**{**counters, **state}),
        plan=section(max_epochs=3, steps_per_epoch=10, total_steps=30),
        config=section(
            run=section(name="digits"), training=section(precision="fp32"), checkpoint=section(monitor="val_loss")
        ),
        parts=section(model=torch.nn.Linear(1234, 1, bias=False)),
        store=section(path=folder, logs=folder),
        device="cpu",
        elapsed=lambda: 1.5,
    )


def an_outcome(**changes: object) -> SimpleNamespace:
    """Return how a run ended."""
    usual = {"status": "completed", "reason": "", "best_metric": 0.5, "best_epoch": 2, "total_time": 65.0}
    tested = {"test_loss": 0.4, "test_accuracy": 0.97}
    return SimpleNamespace(**{**usual, "error": None, "test_metrics": tested, **changes})


@pytest.mark.parametrize(
    "setting, dtype, said",
    [("fp32", torch.float32, "fp32"), ("fp32", torch.float64, "fp64"), ("bf16", torch.float32, "bf16")],
)
def test_it_says_what_is_computed_in(tmp_path, setting, dtype, said):
    """Without mixed precision, the first line says the type of the model's own numbers."""
    stream, run = io.StringIO(), a_run(tmp_path)
    run.config.training.precision = setting
    run.parts.model.to(dtype)
    console = Console(stream)
    console.dovetail_run_start(run)
    console.dovetail_run_end()
    assert stream.getvalue().startswith(f"digits · cpu · {said} · 1,234 parameters")


def test_an_epoch_is_one_line(tmp_path):
    """Validation and epoch of the same step make one line; a validation within an epoch has its own."""
    stream = io.StringIO()
    console, run = Console(stream), a_run(tmp_path)
    console.dovetail_run_start(run)
    run.state.step, run.state.best_step = 5, 5
    console.dovetail_log("validation", {"val_loss": 0.9})
    run.state.step = 7
    console.dovetail_log("train", {"train_loss": 1.0, "lr": 0.1})
    run.state.step = 10
    console.dovetail_log("validation", {"val_loss": 0.8, "val_accuracy": 0.5})
    console.dovetail_log("epoch", {"train_loss": 1.1, "val_loss": 0.8, "samples_per_second": 10.0})
    console.dovetail_run_end()

    assert stream.getvalue().splitlines() == [
        "digits · cpu · fp32 · 1,234 parameters · 3 epochs of 10 steps",
        "epoch 1/3  step  5/30  val_loss 0.9  best",
        "epoch 1/3  step 10/30  train_loss 1.1  val_loss 0.8  val_accuracy 50.00 %",
    ]


def test_an_epoch_without_validation_has_its_line(tmp_path):
    """The figures of the epoch alone are shown, not those of a validation that was before its end."""
    stream = io.StringIO()
    console, run = Console(stream), a_run(tmp_path)
    console.dovetail_run_start(run)
    run.state.step = 10
    console.dovetail_log("epoch", {"train_loss": 1.1, "lr": 0.1, "val_loss": 3.0})
    console.dovetail_run_end()

    assert stream.getvalue().splitlines()[1:] == ["epoch 1/3  step 10/30  train_loss 1.1"]


def test_a_validation_before_the_end_is_not_lost(tmp_path):
    """A run that stops between a validation and the end of its epoch has still shown it."""
    stream = io.StringIO()
    console = Console(stream)
    console.dovetail_run_start(a_run(tmp_path, step=4))
    console.dovetail_log("validation", {"val_loss": 0.7})
    console.dovetail_run_end()

    assert "val_loss 0.7" in stream.getvalue()


def test_a_silent_stretch_is_broken(tmp_path):
    """A long epoch says now and then that it lives, with speed and time left, and stops when the run ends."""
    stream = io.StringIO()
    console, run = Console(stream, silence=0.05), a_run(tmp_path)
    console.dovetail_run_start(run)
    run.state.step, run.state.samples_seen = 3, 96
    console.dovetail_log("train", {"train_loss": 1.25})
    while "eta" not in stream.getvalue():
        time.sleep(0.01)
    console.dovetail_run_end()

    assert re.search(r"epoch 1/3  step  3/30  train_loss 1.25  [\d,.]+ samples/s  eta \d", stream.getvalue())
    for thread in threading.enumerate():
        if thread.name == "dovetail-console":
            thread.join()


@pytest.mark.parametrize("mode,lines", [("silent", 0), ("summary", 5)])
def test_a_quiet_console_says_no_more_than_asked(tmp_path, mode, lines):
    """Silent is silent; a summary is the end only."""
    stream = io.StringIO()
    console, run = Console(stream, mode=mode), a_run(tmp_path, step=30, epoch=3)
    console.dovetail_run_start(run)
    console.dovetail_log("epoch", {"train_loss": 1.0})
    console.dovetail_alert(SimpleNamespace(severity="warning", message="a spike"))
    console.dovetail_run_end()
    before = len(stream.getvalue().splitlines())
    console.summarise(an_outcome(), ["dovetail", "run", "x.toml"])

    assert before == (0 if mode == "silent" else 1)  # the warning
    assert len(stream.getvalue().splitlines()) == before + lines
    assert console.folder == tmp_path


def test_the_summary_says_how_it_ended(tmp_path):
    """Status, reason, length, best, test, folder, report, and a command that a shell takes as it is."""
    (tmp_path / "report.html").touch()
    progress = Progress(a_run(tmp_path, epoch=3, step=30, best_metric=0.5, best_epoch=2))
    lines = summary(an_outcome(status="stopped_early", reason="enough"), progress, tmp_path, ["dovetail", "run", "a b"])

    assert lines == [
        "✓ stopped early after 1 min 05 s: enough",
        "  trained  3 epochs, 30 steps",
        "  best     val_loss 0.5 in epoch 2",
        "  test     loss 0.4  accuracy 97.00 %",
        f"  run      {tmp_path}",
        f"  report   {tmp_path}/report.html",
        "  again    dovetail run 'a b'",
    ]


def test_a_summary_needs_neither_a_run_nor_a_test():
    """A run that failed before its first batch is summed up, too."""
    lines = summary(an_outcome(status="failed", reason="no", test_metrics={}), None, None, ["dovetail"])

    assert lines == ["✗ failed after 1 min 05 s", "  again    dovetail"]


def test_a_run_that_fails_in_its_first_step_has_trained_nothing(tmp_path):
    """The epoch that had begun is not counted as trained."""
    progress = Progress(a_run(tmp_path, epoch=1, step=0, best_metric=None))
    lines = summary(an_outcome(status="failed", reason="no", test_metrics={}), progress, None, ["dovetail"])

    assert lines == ["✗ failed after 1 min 05 s", "  again    dovetail"]


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_gets_a_panel(tmp_path, colour):
    """The panel has progress, losses with their course and the best; with NO_COLOR it has no colours."""
    pytest.importorskip("rich")
    code = f"""
import sys, time, types
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(TESTS)!r}]
from test_console import a_run
from pathlib import Path
from dovetail.record.console import Console
run = a_run(Path({str(tmp_path)!r}), epoch=2)
console = Console(sys.stdout)
assert console.mode == "live"
console.dovetail_run_start(run)
for step in range(1, 21):
    run.state.step, run.state.samples_seen = step, step * 32
    console.dovetail_log("train", {{"train_loss": 2.0 / step, "lr": 0.1}})
run.state.best_metric, run.state.best_epoch, run.state.best_step = 0.25, 2, 20
console.dovetail_log("validation", {{"val_loss": 0.25, "val_accuracy": 0.9}})
console.dovetail_log("epoch", {{"train_loss": 0.3, "val_loss": 0.25}})
time.sleep(0.6)
console.dovetail_run_end()
"""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **({} if colour else {"NO_COLOR": "1"})}
    written = on_terminal([sys.executable, "-c", code], environment)

    assert "epoch 2/3" in written
    assert "step 20/30" in written
    assert "train loss 0.3" in written
    assert "█" in written
    assert "best val_loss 0.25 in epoch 2" in written
    assert "\x1b[2K" in written  # drawn in place, and removed at the end
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", written)) == colour


def on_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Run a command on a pseudo-terminal and return what it wrote."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment, close_fds=True) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's way of saying that the other end is closed
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0, written.decode()
    return written.decode()


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value,expected",
    [
        (0.0523, "0.0523"),
        (12345.678, "12,345.7"),
        (3.2e-6, "3.2e-06"),
        (5.0, "5"),
        (math.nan, "nan"),
        (2.5e9, "2.5e+09"),
    ],
)
def test_figures_are_short(value, expected):
    """Four digits at most, none where they say nothing."""
    assert words.figure(value) == expected


@pytest.mark.parametrize(
    "seconds,said,clock",
    [
        (0.42, "0.4 s", "0:00"),
        (9.96, "10.0 s", "0:10"),
        (34.2, "34 s", "0:34"),
        (59.6, "1 min 00 s", "1:00"),
        (3725, "1 h 02 min", "1:02:05"),
        (math.inf, "?", "-:--"),
    ],
)
def test_times_are_said_in_fitting_units(seconds, said, clock):
    """Tenths for moments, minutes for hours; an unknown time is not a number."""
    assert (words.duration(seconds), words.clock(seconds)) == (said, clock)


@pytest.mark.parametrize(
    "name,value,expected",
    [
        ("val_accuracy", 0.981, "98.10 %"),
        ("test_f1", 1.0, "100.00 %"),
        ("balanced_accuracy", 0.5, "50.00 %"),
        ("accuracy", 97.0, "97"),
        ("val_loss", 0.5, "0.5"),
    ],
)
def test_shares_are_percentages(name, value, expected):
    """Only where the name says so, and only between nothing and everything."""
    assert words.share(name, value) == expected


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=200), st.integers(1, 40))
def test_a_sparkline_is_never_wider_than_asked(values, width):
    """Whatever the values are."""
    line = words.sparkline(values, width)

    assert len(line) == min(len(values), width)
    assert set(line) <= set("▁▂▃▄▅▆▇█ ")


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=40, unique=True))
def test_a_sparkline_is_highest_where_the_values_are(values):
    """The largest value has the tallest bar, the smallest the lowest."""
    line = words.sparkline(values, 40)

    assert line[values.index(max(values))] == "█"
    assert line[values.index(min(values))] == "▁"
