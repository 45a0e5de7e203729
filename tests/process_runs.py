"""Runs of several processes, for tests: a run file, the command line, and reading the results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from dovetail.checkpoint.format import read_model
from installed import install

#: A small run on digits, with 899 training samples.
RUN = """
[run]
name = "small"
[data]
type = "digits"
flat = true
split = { train = 0.5, validation = 0.2, test = 0.3 }
[model]
type = "mlp"
hidden_dims = [16]
[loss]
type = "cross_entropy"
[optimizer]
type = "adamw"
lr = 1e-2
[metrics.accuracy]
type = "accuracy"
[metrics.confusion]
type = "confusion_matrix"
[training]
max_epochs = 2
[hardware]
device = "cpu"
threads = 1
[report]
enabled = false
"""

PLUGIN = """
from dovetail import Component, hookimpl

@hookimpl
def dovetail_callbacks():
    yield Component("amid", "amid.callback:Amid")
"""
#: In the first run of a folder, waits before an update until the run is stopped, or kills all ranks but 0.
CALLBACK = """
import os, pathlib, signal, time

class Amid:
    def __init__(self, step: int, mark: str, kill: bool = False) -> None:
        self.step, self.mark, self.kill = step, mark, kill

    def dovetail_run_start(self, run):
        mark = pathlib.Path(f"{self.mark}{run.group.rank}")
        self.first = run.resumed is None and not mark.exists()
        mark.touch()

    def dovetail_batch_start(self, run, step):
        if not self.first or step != self.step:
            return
        if self.kill and not run.group.leads:
            os.kill(os.getpid(), signal.SIGKILL)
        while not self.kill and run.state.stop is None and run.state.requested is None:
            time.sleep(0.01)
"""


def wait_at(folder: Path, step: int, *, kill: bool = False) -> list[str]:
    """Return the settings of a run in ``folder`` that waits before update ``step`` to be stopped, or is killed there.

    A signal then always arrives during training, however slow the machine is.
    """
    if not (folder / "site").exists():
        install(folder / "site", "amid", PLUGIN, callback=CALLBACK)
    options = {"type": "amid", "step": step, "mark": folder / "mark", "kill": str(kill).lower()}
    return [f"callbacks.amid.{name}={value}" for name, value in options.items()]


def _with_amid(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), *sys.path])}


def dovetail(cwd: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line in a subprocess."""
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", *arguments],
        cwd=cwd,
        env=_with_amid(cwd),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's newest checkpoint."""
    return dict(read_model(newest_checkpoint(folder)))


def newest_checkpoint(folder: Path) -> Path:
    """Return the path of a run's newest checkpoint."""
    return max((folder / "checkpoints").iterdir(), key=lambda path: path.name)


def start_long_run(tmp_path: Path, run_file: Path, *settings: str) -> subprocess.Popen[str]:
    """Start a run, by default a long one of two processes, and return when its first epoch is over."""
    settings = settings or ("--nproc", "2", "training.max_epochs=100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "dovetail", "run", str(run_file), *settings],
        cwd=tmp_path,
        env=_with_amid(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            return process
    raise AssertionError(process.communicate()[1])


def killed_and_uninterrupted(tmp_path: Path, run_file: Path, *settings: str) -> tuple[Path, Path, dict[str, Any]]:
    """Return the folders of a run with a killed process and of an uninterrupted run, and the latter's record."""
    uninterrupted = dovetail(tmp_path, "run", str(run_file), *settings, "run.name=whole", "--json")

    expected = json.loads(uninterrupted.stdout)
    killed = wait_at(tmp_path, expected["steps"] // 2 + 3, kill=True)
    done = dovetail(tmp_path, "run", str(run_file), *settings, *killed, "--max-restarts", "1")

    assert "process 1 of 2 was killed by SIGKILL" in done.stderr
    assert "restarting from the last checkpoint" in done.stderr
    assert "completed" in done.stdout
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert record["test"] == expected["test"]
    return folder, tmp_path / expected["folder"], expected


def rank_1_of(pid: int) -> int:
    """Return the process id of rank 1."""
    return next(
        child for child in children(pid) if b"RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    )


def children(pid: int) -> list[int]:
    """Return the ids of the processes that ``pid`` started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []
