"""`dovetail run`: what it prints, writes and returns, in real runs of a moment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from dovetail.cli import main
from installed import install
from places import EXAMPLES
from small_runs import only_run

NOISY_PLUGIN = """\
from dovetail import Component, hookimpl

@hookimpl
def dovetail_losses():
    yield Component("noisy", "noisy.losses:noisy")
"""


NOISY_LOSS = """\
import torch

class Noisy(torch.nn.CrossEntropyLoss):
    def forward(self, input, target):
        print("computing")
        return super().forward(input, target)

def noisy():
    return Noisy()
"""


def test_a_run_prints_its_progress_and_writes_its_records(small, capsys):
    """It prints a line per epoch and a summary with paths and command, and writes record, report and plots."""
    assert main(["run", "small.toml", "optimizer.lr=0.01"]) == 0
    output = capsys.readouterr()
    folder = only_run(Path("runs"), "small")
    lines = output.out.splitlines()

    assert output.err == ""
    assert lines[0].startswith("small · cpu · fp32 · ")
    assert len([line for line in lines if re.match(r"epoch \d/3  step \d+/\d+  train_loss .* val_loss ", line)]) == 3
    assert "  run      " + str(folder) in lines
    assert "  report   " + str(folder / "report.html") in lines
    assert lines[-1] == "  repeat   dovetail run small.toml optimizer.lr=0.01"
    record = json.loads((folder / "run.json").read_text())
    assert record["command"] == ["dovetail", "run", "small.toml", "optimizer.lr=0.01"]
    report = (folder / "report.html").read_text()
    assert "left taken for right" in report
    assert "command line, argument 1" in report
    assert (folder / "plots" / "loss.svg").is_file()


def test_resolved_toml_repeats_a_run(small, capsys):
    """Running `resolved.toml` gives the same metrics and numeric hash."""
    main(["run", "small.toml", "training.max_epochs=2", "paths.output=first", "--quiet"])
    (first,) = Path("first/small").iterdir()
    assert main(["run", str(first / "resolved.toml"), "paths.output=second", "--quiet"]) == 0
    (second,) = Path("second/small").iterdir()
    before, after = (json.loads((folder / "run.json").read_text()) for folder in (first, second))

    assert before["test"] == after["test"]
    assert before["numeric_hash"] == after["numeric_hash"]
    assert before["metrics"]["train_loss"] == after["metrics"]["train_loss"]


def test_json_is_one_document_on_standard_output(small, capsys):
    """With `--json`, standard output has the record and the run's folder; progress goes to standard error."""
    assert main(["run", "small.toml", "--json"]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)

    assert document["status"] == "completed"
    assert Path(document["report"]).is_file()
    assert Path(document["folder"]) == only_run(Path("runs"), "small")
    assert 0 <= document["test"]["test_accuracy"] <= 1
    assert "epoch 3/3" in output.err


def test_a_part_that_prints_does_not_break_the_document(small, tmp_path, monkeypatch, capsys):
    """With `--json`, what a part prints while training goes to standard error."""
    install(tmp_path / "site", "noisy", NOISY_PLUGIN, losses=NOISY_LOSS)
    monkeypatch.syspath_prepend(tmp_path / "site")

    assert main(["run", "small.toml", "loss.type=noisy", "training.max_epochs=1", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["status"] == "completed"
    assert "computing" in output.err


@pytest.mark.parametrize(
    "arguments,progress,summary", [(["--quiet"], False, False), (["logging.console=false"], False, True)]
)
def test_a_run_can_be_quieter(small, capsys, arguments, progress, summary):
    """`--quiet` prints nothing; `logging.console = false` prints only the summary."""
    assert main(["run", "small.toml", *arguments]) == 0
    output = capsys.readouterr().out

    assert ("epoch 1/3" in output) == progress
    assert ("✓ completed" in output) == summary


def test_a_dry_run_tries_one_batch_and_writes_no_files(small, capsys):
    """It prints shapes, sizes, length and the first loss, and creates no run folder."""
    assert main(["run", "small.toml", "--dry-run"]) == 0
    output = capsys.readouterr().out

    assert output.startswith("small.toml: ready to run\n")
    assert re.search(r"samples +36 train · 12 validation · 12 test", output)
    assert re.search(r"batch +inputs 32 × 2, targets 32", output)
    assert not Path("runs").exists()

    assert main(["run", "small.toml", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"] == {"train": 36, "validation": 12, "test": 12}


@pytest.mark.parametrize(
    "overrides,place,expected",
    [
        (["loss.type=mse"], "command line, argument 1: loss: ", "MSELoss: outputs have shape"),
        (["model.num_classes=1"], "small.toml:14:1: loss: ", "label 1 is out of range for 1 classes"),
        (["model.input_shape=[3]"], "small.toml:10:1: model: ", "does not accept inputs of float32 ["),
        (["metrics.far.type=mae"], "command line, argument 1: metrics.far: ", "does not accept outputs of float32 ["),
        (
            ["checkpoint.monitor=val_acuracy"],
            "command line, argument 1: checkpoint.monitor: ",
            "no metric 'val_acuracy'",
        ),
        (
            ["callbacks.patience.type=early_stopping", "callbacks.patience.monitor=val_acc"],
            "command line, argument 2: callbacks.patience.monitor: ",
            "there is no metric 'val_acc'",
        ),
        (
            ["scheduler.type=plateau", "scheduler.monitor=val_acc"],
            "command line, argument 2: scheduler.monitor: ",
            "there is no metric 'val_acc'",
        ),
    ],
)
def test_parts_that_do_not_fit_are_bad_input_in_a_run_and_a_dry_run(small, capsys, overrides, place, expected):
    """The error is one line with a place, and exit code 2; a run writes the traceback to its log and trains nothing."""
    code = main(["run", "small.toml", "--dry-run", *overrides])
    (dry,) = capsys.readouterr().err.splitlines()

    assert code == 2
    assert dry.startswith(place)
    assert expected in dry
    assert not Path("runs").exists()

    code = main(["run", "small.toml", "--quiet", *overrides])
    output, log = capsys.readouterr().err.splitlines()
    assert code == 2
    assert output.startswith(place)
    assert expected in output
    assert log == f"The traceback is in {only_run(Path('runs'), 'small') / 'log.txt'}"
    assert "Traceback" in (only_run(Path("runs"), "small") / "log.txt").read_text()
    assert not (only_run(Path("runs"), "small") / "metrics.jsonl").exists()


def test_parts_that_do_not_fit_are_problems_in_json(small, capsys):
    """The document has the place, as for any other bad input, and the record of the run."""
    assert main(["run", "small.toml", "loss.type=mse", "--json"]) == 2
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert "dovetail resume" not in output.err  # resuming would fail again

    assert document["status"] == "failed"
    assert [problem["path"] for problem in document["problems"]] == ["loss"]


def test_a_dry_run_shows_the_traceback_of_a_broken_part(small, tmp_path, monkeypatch, capsys):
    """A bug in a plugin is not bad input: the exit code is 1 and the traceback has the plugin's lines."""
    broken = NOISY_LOSS.replace("print", "self.prynt")
    install(tmp_path / "site", "broken", NOISY_PLUGIN.replace("noisy.losses", "broken.losses"), losses=broken)
    monkeypatch.syspath_prepend(tmp_path / "site")

    assert main(["run", "small.toml", "loss.type=noisy", "--dry-run"]) == 1
    assert 'self.prynt("computing")' in capsys.readouterr().err
    assert main(["run", "small.toml", "loss.type=noisy", "--quiet"]) == 1
    assert "'Noisy' object has no attribute 'prynt'" in capsys.readouterr().err
    assert 'self.prynt("computing")' in (only_run(Path("runs"), "small") / "log.txt").read_text()


def test_the_log_of_runs_has_the_profile(small):
    """`runs.md` lists the profile and the overrides, so that people see how runs differ."""
    assert main(["run", "small.toml", "--profile", "ci_fast", "--quiet", "optimizer.lr=0.01"]) == 0

    assert "--profile ci_fast optimizer.lr=0.01" in Path("runs/runs.md").read_text(encoding="utf-8").splitlines()[-1]


def test_a_part_that_fails_at_the_start_fails_the_run_with_one_line(small, capsys):
    """The error has the part's message and the log's path, although the console has not started yet."""
    drift = ["callbacks.drift.type=drift_monitor", "callbacks.drift.reference=nothing.json"]
    code = main(["run", "small.toml", *drift])
    output = capsys.readouterr()

    assert (code, output.out) == (1, "")
    assert output.err.startswith("dovetail: the run failed: callbacks.drift failed in dovetail_run_start: ")
    assert "nothing.json" in output.err
    assert "Traceback" not in output.err
    assert output.err.splitlines()[-1] == f"The traceback is in {only_run(Path('runs'), 'small') / 'log.txt'}"
    assert main(["run", "small.toml", *drift, "run.name=other", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["status"] == "failed"
    assert Path(record["folder"]).is_dir()


@pytest.mark.parametrize("setting", ["scheduler.type=plateau scheduler", "callbacks.p.type=early_stopping callbacks.p"])
def test_a_misspelt_monitor_is_found_before_training(small, capsys, setting):
    """One validation batch before training shows which metrics there are."""
    kind, place = setting.split()
    assert main(["run", "small.toml", kind, f"{place}.monitor=val_accurracy", "--quiet"]) == 2

    assert f"{place}.monitor: there is no metric 'val_accurracy'" in capsys.readouterr().err
    assert not (only_run(Path("runs"), "small") / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "override,expected",
    [
        ("data.path=nothing.csv", "data: "),
        ("data.target=nothing", "data"),
        ("hardware.device=cuda:7", "command line, argument 1: hardware.device: "),
        ("model.hidden_dims=[0]", "model"),
        ("run.seed=18446744073709551616", "command line, argument 1: run.seed: must be between 0 and 1.8"),
        ("checkpoint.monitor=val_accuracyy", "val_accuracy"),
    ],
)
def test_a_part_that_cannot_be_built_is_bad_input(small, capsys, override, expected):
    """The error is at most two lines on standard error, without a traceback, and with exit code 2."""
    code = main(["run", "small.toml", override, "--quiet"])
    output = capsys.readouterr()

    assert code == 2
    assert expected in output.err
    assert output.out == ""
    assert "Traceback" not in output.err
    assert len(output.err.splitlines()) <= 2


def test_a_failed_run_says_where_its_traceback_is(small, capsys):
    """The exit code is 1, one line says what failed, and the traceback is only in log.txt; the report shows it too."""
    assert main(["run", "small.toml", "optimizer.lr=1e30", "training.max_grad_norm=@none"]) == 1
    output = capsys.readouterr()
    folder = only_run(Path("runs"), "small")

    assert re.search(r"dovetail: the run failed: .* became NaN", output.err)
    assert f"The traceback is in {folder / 'log.txt'}" in output.err
    assert "Traceback" not in output.out + output.err
    assert "Traceback" in (folder / "log.txt").read_text()
    assert "✗ failed" in output.out
    assert "✗ failed" in (folder / "report.html").read_text()

    assert main(["run", "small.toml", "optimizer.lr=1e30", "training.max_grad_norm=@none", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "failed"
    assert "became NaN" in document["error"]
    assert document["problems"] == []


def test_a_run_out_of_budget_has_exit_code_3(small, capsys):
    """The run stops cleanly and prints the status."""
    assert (
        main(["run", "small.toml", "budget.wall_clock=1s", "training.max_epochs=1000000", "report.enabled=false"]) == 3
    )
    assert "out of budget" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_survives_a_closed_console(small):
    """If its output is a closed pipe, as after `| head` or a lost connection, the run trains on in silence."""
    code = "import sys; from dovetail.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", "small.toml", "training.max_epochs=30"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)

    assert done.returncode == 0
    assert done.stderr == ""
    (folder,) = Path("runs").glob("small/*/")
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["epochs"]) == ("completed", 30)
    assert "the console" in (folder / "log.txt").read_text()


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_exit_code_130(small):
    """The first Ctrl-C stops the run with a checkpoint and a summary."""
    code = "import sys; from dovetail.cli import main; sys.exit(main())"
    settings = ["training.max_epochs=1000000", "report.enabled=false", "checkpoint.every={minutes=60}"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "small.toml", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(Path("runs").glob("small/*/metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()

    assert process.returncode == 130, err
    assert "interrupted" in out
    assert "Traceback" not in err
    assert list(only_run(Path("runs"), "small").glob("checkpoints/step-*/manifest.json"))


@pytest.mark.parametrize("profile", [[], ["--profile", "ci_fast"]], ids=["", "ci_fast"])
@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.toml")))
def test_every_example_is_ready_to_run(example, profile, monkeypatch, capsys):
    """Each example passes a dry run in the repository, without downloads, also with the profile `ci_fast`."""
    monkeypatch.chdir(EXAMPLES.parent)

    assert main(["run", f"examples/{example}", "--dry-run", *profile]) == 0, capsys.readouterr().err
    assert "ready to run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "example,name",
    [
        (path.name, name)
        for path in sorted(EXAMPLES.glob("*.toml"))
        for name in tomllib.loads(path.read_text(encoding="utf-8")).get("profile", {})
    ],
)
def test_every_profile_of_an_example_is_valid(example, name, capsys):
    """Each profile passes `config check`, including those that a small machine cannot run."""
    assert main(["config", "check", str(EXAMPLES / example), "--profile", name]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_first_example_learns_to_read_digits(tmp_path, monkeypatch, capsys):
    """The test accuracy is at least 97 %."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(EXAMPLES / "digits.toml"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)

    assert record["test"]["test_accuracy"] >= 0.97
    assert Path(record["report"]).is_file()
