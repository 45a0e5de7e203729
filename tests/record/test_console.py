"""The console: what it prints while a run trains, and at its end."""

from __future__ import annotations

import io
import re
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from dovetail.record.console import Console, summary
from dovetail.record.progress import Progress
from run_stub import a_run, an_outcome


@pytest.mark.parametrize(
    "setting, dtype, expected",
    [("fp32", torch.float32, "fp32"), ("fp32", torch.float64, "fp64"), ("bf16", torch.float32, "bf16")],
)
def test_the_first_line_has_the_precision(tmp_path, setting, dtype, expected):
    """Without mixed precision, this is the dtype of the model's parameters."""
    stream, run = io.StringIO(), a_run(tmp_path)
    run.config.training.precision = setting
    run.parts.model.to(dtype)
    console = Console(stream)
    console.dovetail_run_start(run)
    console.dovetail_run_end()
    assert stream.getvalue().startswith(f"digits · cpu · {expected} · 1,234 parameters")


def test_an_epoch_is_one_line(tmp_path):
    """A validation at the end of an epoch is in the epoch's line; a validation within an epoch has its own line."""
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


def test_an_epoch_without_validation_has_a_line(tmp_path):
    """The line has only the epoch's own metrics, not those of an earlier validation."""
    stream = io.StringIO()
    console, run = Console(stream), a_run(tmp_path)
    console.dovetail_run_start(run)
    run.state.step = 10
    console.dovetail_log("epoch", {"train_loss": 1.1, "lr": 0.1, "val_loss": 3.0})
    console.dovetail_run_end()

    assert stream.getvalue().splitlines()[1:] == ["epoch 1/3  step 10/30  train_loss 1.1"]


def test_a_pending_validation_is_printed_at_the_end(tmp_path):
    """A run that stops between a validation and the end of its epoch still prints the validation."""
    stream = io.StringIO()
    console = Console(stream)
    console.dovetail_run_start(a_run(tmp_path, step=4))
    console.dovetail_log("validation", {"val_loss": 0.7})
    console.dovetail_run_end()

    assert "val_loss 0.7" in stream.getvalue()


def test_progress_is_printed_after_a_silence(tmp_path):
    """A long epoch prints the throughput and the time left now and then, until the run ends."""
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
def test_a_quiet_console_prints_only_what_its_mode_allows(tmp_path, mode, lines):
    """Mode "silent" prints nothing, mode "summary" only alerts and the summary."""
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


def test_the_summary_has_the_outcome(tmp_path):
    """It has status, reason, length, best, test, folder, report, and a command that is quoted for a shell."""
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
        "  repeat   dovetail run 'a b'",
    ]


def test_a_run_that_failed_before_it_started_has_a_summary():
    """The summary then has only the status and the command."""
    lines = summary(an_outcome(status="failed", reason="no", test_metrics={}), None, None, ["dovetail"])

    assert lines == ["✗ failed after 1 min 05 s", "  repeat   dovetail"]


def test_a_run_that_fails_in_its_first_step_has_trained_nothing(tmp_path):
    """The epoch that had started does not count as trained."""
    progress = Progress(a_run(tmp_path, epoch=1, step=0, best_metric=None))
    lines = summary(an_outcome(status="failed", reason="no", test_metrics={}), progress, None, ["dovetail"])

    assert lines == ["✗ failed after 1 min 05 s", "  repeat   dovetail"]
