"""`dovetail run` itself: real runs, small ones, with what they print, leave behind and return."""

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
from installed import dovetail, install
from places import EXAMPLES

RUN_FILE = """\
[run]
name = "small"

[data]
type = "csv"
path = "points.csv"
target = "side"
split = { train = 0.6, validation = 0.2, test = 0.2 }

[model]
type = "mlp"
hidden_dims = [8]

[loss]
type = "cross_entropy"

[metrics.accuracy]
type = "accuracy"

[metrics.confusion]
type = "confusion_matrix"

[training]
max_epochs = 3

[hardware]
threads = 1
"""

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


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """Return a run file over a table of sixty points, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{x},{60 - x},{'right' if x > 30 else 'left'}" for x in range(60)]
    Path("points.csv").write_text("x,y,side\n" + "\n".join(rows) + "\n", encoding="utf-8")
    Path("small.toml").write_text(RUN_FILE, encoding="utf-8")
    return Path("small.toml")


def the_run() -> Path:
    """Return the folder of the only run there is."""
    (folder,) = Path("runs/small").iterdir()
    return folder


def test_a_run_says_how_it_went_and_leaves_its_records(small, capsys):
    """Lines for each epoch, a summary with paths and the command; record, metrics, report and plots on disk."""
    assert main(["run", "small.toml", "optimizer.lr=0.01"]) == 0
    said = capsys.readouterr()
    folder = the_run()
    lines = said.out.splitlines()

    assert said.err == ""
    assert lines[0].startswith("small · cpu · fp32 · ")
    assert len([line for line in lines if re.match(r"epoch \d/3  step \d+/\d+  train_loss .* val_loss ", line)]) == 3
    assert "  run      " + str(folder) in lines
    assert "  report   " + str(folder / "report.html") in lines
    assert lines[-1] == "  again    dovetail run small.toml optimizer.lr=0.01"
    record = json.loads((folder / "run.json").read_text())
    assert record["command"] == ["dovetail", "run", "small.toml", "optimizer.lr=0.01"]
    report = (folder / "report.html").read_text()
    assert "left taken for right" in report
    assert "command line, argument 1" in report
    assert (folder / "plots" / "loss.svg").is_file()


def test_its_own_record_repeats_it(small, capsys):
    """Running resolved.toml gives the same figures."""
    main(["run", "small.toml", "training.max_epochs=2", "paths.output=one", "--quiet"])
    (first,) = Path("one/small").iterdir()
    assert main(["run", str(first / "resolved.toml"), "paths.output=two", "--quiet"]) == 0
    (second,) = Path("two/small").iterdir()
    one, two = (json.loads((folder / "run.json").read_text()) for folder in (first, second))

    assert one["test"] == two["test"]
    assert one["numeric_hash"] == two["numeric_hash"]
    assert one["metrics"]["train_loss"] == two["metrics"]["train_loss"]


def test_json_is_one_document_on_standard_output(small, capsys):
    """The record with the run's folder; what a person reads goes to standard error."""
    assert main(["run", "small.toml", "--json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)

    assert document["status"] == "completed"
    assert Path(document["report"]).is_file()
    assert Path(document["folder"]) == the_run()
    assert 0 <= document["test"]["test_accuracy"] <= 1
    assert "epoch 3/3" in said.err


def test_a_part_that_prints_does_not_spoil_the_document(small, tmp_path):
    """Whatever a part writes to standard output while it trains, a program still reads one document."""
    install(tmp_path, "noisy", NOISY_PLUGIN, losses=NOISY_LOSS)
    done = dovetail("run", "small.toml", "loss.type=noisy", "training.max_epochs=1", "--json", path=tmp_path)

    assert json.loads(done.stdout)["status"] == "completed"
    assert "computing" in done.stderr


@pytest.mark.parametrize(
    "arguments,watched,summed_up", [(["--quiet"], False, False), (["logging.console=false"], False, True)]
)
def test_a_run_can_be_quieter(small, capsys, arguments, watched, summed_up):
    """--quiet says nothing at all, logging.console = false only how it ended."""
    assert main(["run", "small.toml", *arguments]) == 0
    said = capsys.readouterr().out

    assert ("epoch 1/3" in said) == watched
    assert ("✓ completed" in said) == summed_up


def test_a_dry_run_tries_one_batch_and_writes_nothing(small, capsys):
    """Shapes, sizes, length and the first loss; no run folder."""
    assert main(["run", "small.toml", "--dry-run"]) == 0
    said = capsys.readouterr().out

    assert said.startswith("small.toml: ready to run\n")
    assert re.search(r"samples +36 train · 12 validation · 12 test", said)
    assert re.search(r"batch +inputs 32 × 2, targets 32", said)
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
def test_what_does_not_fit_is_bad_input_in_a_run_and_in_a_dry_run(small, capsys, overrides, place, expected):
    """One line with its place, exit code 2, no traceback; a run keeps that in its log, and trains nothing."""
    code = main(["run", "small.toml", "--dry-run", *overrides])
    (rehearsed,) = capsys.readouterr().err.splitlines()

    assert code == 2
    assert rehearsed.startswith(place)
    assert expected in rehearsed
    assert not Path("runs").exists()

    code = main(["run", "small.toml", "--quiet", *overrides])
    said, log = capsys.readouterr().err.splitlines()
    assert code == 2
    assert said.startswith(place)
    assert expected in said
    assert log == f"The traceback is in {the_run() / 'log.txt'}"
    assert "Traceback" in (the_run() / "log.txt").read_text()
    assert not (the_run() / "metrics.jsonl").exists()


def test_programs_are_told_what_does_not_fit(small, capsys):
    """The document has the place as for any other bad input, and the record of the run."""
    assert main(["run", "small.toml", "loss.type=mse", "--json"]) == 2
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert "dovetail resume" not in said.err  # it would come to the same

    assert document["status"] == "failed"
    assert [one["path"] for one in document["problems"]] == ["loss"]


def test_a_dry_run_shows_the_traceback_of_a_broken_part(small, tmp_path):
    """A mistake in a plugin's code is not taken for bad input: exit code 1, and its own lines are shown."""
    broken = NOISY_LOSS.replace("print", "self.prynt")
    install(tmp_path / "site", "noisy", NOISY_PLUGIN, losses=broken)
    ours = str(Path(main.__code__.co_filename).parents[2])
    path = os.pathsep.join([str(tmp_path / "site"), ours])
    rehearsed = dovetail("run", "small.toml", "loss.type=noisy", "--dry-run", PYTHONPATH=path)
    done = dovetail("run", "small.toml", "loss.type=noisy", "--quiet", PYTHONPATH=path)

    assert (rehearsed.returncode, done.returncode) == (1, 1)
    assert 'self.prynt("computing")' in rehearsed.stderr
    assert "'Noisy' object has no attribute 'prynt'" in done.stderr
    assert 'self.prynt("computing")' in (the_run() / "log.txt").read_text()


def test_the_log_of_runs_tells_the_profile(small):
    """Beside what was changed on the command line: a person reads there how runs differ."""
    assert main(["run", "small.toml", "--profile", "ci_fast", "--quiet", "optimizer.lr=0.01"]) == 0

    assert "--profile ci_fast optimizer.lr=0.01" in Path("runs/runs.md").read_text(encoding="utf-8").splitlines()[-1]


def test_a_part_that_cannot_begin_fails_the_run_in_a_line(small, capsys):
    """With what it says, and where its log is; the console has not begun by then."""
    drift = ["callbacks.drift.type=drift_monitor", "callbacks.drift.reference=nothing.json"]
    code = main(["run", "small.toml", *drift])
    said = capsys.readouterr()

    assert (code, said.out) == (1, "")
    assert said.err.startswith("dovetail: the run failed: callbacks.drift failed in dovetail_run_start: ")
    assert "nothing.json" in said.err
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1] == f"The traceback is in {the_run() / 'log.txt'}"
    assert main(["run", "small.toml", *drift, "run.name=other", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["status"] == "failed"
    assert Path(record["folder"]).is_dir()


def test_a_finished_run_is_named_where_nothing_is_left_to_do(small, capsys):
    """Since ``latest`` may be another than one thinks."""
    assert main(["run", "small.toml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["resume", "latest"]) == 0
    assert capsys.readouterr().out.startswith(f"nothing is left to do: {the_run()} has completed; ")


@pytest.mark.parametrize("setting", ["scheduler.type=plateau scheduler", "callbacks.p.type=early_stopping callbacks.p"])
def test_a_misspelt_monitor_costs_no_epoch(small, capsys, setting):
    """One batch of validation tells, before anything is trained, whoever goes by the metric."""
    kind, place = setting.split()
    assert main(["run", "small.toml", kind, f"{place}.monitor=val_accurracy", "--quiet"]) == 2

    assert f"{place}.monitor: there is no metric 'val_accurracy'" in capsys.readouterr().err
    assert not (the_run() / "metrics.jsonl").exists()


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
def test_what_cannot_be_built_is_bad_input(small, capsys, override, expected):
    """A line or two on standard error, no traceback, nothing on standard output."""
    code = main(["run", "small.toml", override, "--quiet"])
    said = capsys.readouterr()

    assert code == 2
    assert expected in said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) <= 2


def test_a_run_that_fails_says_where_its_traceback_is(small, capsys):
    """Exit code 1, a line about what happened, and the traceback in log.txt only; the report shows the failure."""
    assert main(["run", "small.toml", "optimizer.lr=1e30", "training.max_grad_norm=@none"]) == 1
    said = capsys.readouterr()
    folder = the_run()

    assert re.search(r"dovetail: the run failed: .* became NaN", said.err)
    assert f"The traceback is in {folder / 'log.txt'}" in said.err
    assert "Traceback" not in said.out + said.err
    assert "Traceback" in (folder / "log.txt").read_text()
    assert "✗ failed" in said.out
    assert "✗ failed" in (folder / "report.html").read_text()

    assert main(["run", "small.toml", "optimizer.lr=1e30", "training.max_grad_norm=@none", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "failed"
    assert "became NaN" in document["error"]
    assert document["problems"] == []


def test_a_run_out_of_budget_has_an_exit_code_of_its_own(small, capsys):
    """Stopped cleanly, exit code 3."""
    assert (
        main(["run", "small.toml", "budget.wall_clock=1s", "training.max_epochs=1000000", "report.enabled=false"]) == 3
    )
    assert "out of budget" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_outlives_whoever_reads_its_console(small):
    """A closed pipe, as of `| head` or a lost connection, costs the lines and not the training."""
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
    """The first interrupt stops with a checkpoint and a summary."""
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
    assert list(the_run().glob("checkpoints/step-*/manifest.json"))


@pytest.mark.parametrize("profile", [[], ["--profile", "ci_fast"]], ids=["", "ci_fast"])
@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.toml")))
def test_every_example_is_ready_to_run(example, profile, monkeypatch, capsys):
    """From the folder of the repository, without a download, also for a smoke test."""
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
def test_every_profile_of_an_example_is_sound(example, name, capsys):
    """Also those that a small machine cannot run."""
    assert main(["config", "check", str(EXAMPLES / example), "--profile", name]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_first_example_learns_to_read_digits(tmp_path, monkeypatch, capsys):
    """At least 97 % on the test split."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(EXAMPLES / "digits.toml"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)

    assert record["test"]["test_accuracy"] >= 0.97
    assert Path(record["report"]).is_file()
