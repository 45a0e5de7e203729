"""Runs of several processes, for tests: the run file, the command line, and what is left of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from dovetail.checkpoint.format import read_model

#: A small run of digits: 899 training samples.
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


def dovetail(cwd: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's last checkpoint."""
    return dict(read_model(newest(folder)))


def newest(folder: Path) -> Path:
    """Return a run's last checkpoint."""
    return max((folder / "checkpoints").iterdir(), key=lambda path: path.name)


def start_long(tmp_path: Path, run_file: Path, *settings: str) -> subprocess.Popen[str]:
    """Start a run of two processes that takes long, and return when it trains."""
    settings = settings or ("--nproc", "2", "training.max_epochs=100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "dovetail", "run", str(run_file), *settings],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            return process
    raise AssertionError(process.communicate()[1])


def killed_beside_whole(tmp_path: Path, run_file: Path, *settings: str) -> tuple[Path, Path, dict[str, Any]]:
    """Return the folders of a run of which one process was killed and of one left in peace, and what that one told."""
    whole = dovetail(tmp_path, "run", str(run_file), *settings, "run.name=whole", "--json")

    process = start_long(tmp_path, run_file, *settings, "--max-restarts", "1")
    os.kill(second_of(process.pid), signal.SIGKILL)
    output, errors = process.communicate(timeout=240)

    assert process.returncode == 0, errors
    assert "starting anew from the last checkpoint" in errors
    assert "completed" in output
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    record, expected = json.loads((folder / "run.json").read_text()), json.loads(whole.stdout)
    assert record["test"] == expected["test"]
    return folder, tmp_path / expected["folder"], expected


def second_of(pid: int) -> int:
    """Return the process of rank 1."""
    return next(one for one in children(pid) if b"RANK=1" in Path(f"/proc/{one}/environ").read_bytes().split(b"\0"))


def children(pid: int) -> list[int]:
    """Return the processes that ``pid`` started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in path.read_text().split()] if path.exists() else []
