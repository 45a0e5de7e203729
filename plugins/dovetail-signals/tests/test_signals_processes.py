"""Several processes that train with a trainer of this package: killed and started anew, they end as if nothing was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dovetail.checkpoint.format import read_checkpoint

RUN = """
[run]
name = "physics"
seed = 3
[data]
type = "signals.simulated_rolling"
recordings = 4
seconds = 0.2
window = 512
meta = ["rpm"]
split = { validation = 0.25, test = 0, stratify = true }
[model]
type = "signals.cnn1d"
channels = [4]
[loss]
type = "signals.physical_constraint"
expected_freqs = { "1" = [20.0], "2" = [40.0] }
sample_rate = 12000
lambda_freq = 1.0
lambda_sommerfeld = 0.0
lambda_temporal = 0.0
[optimizer]
type = "adamw"
[trainer]
type = "signals.physics_informed"
lambda_schedule = "constant"
[loader]
batch_size = 8
[training]
max_epochs = 4
[checkpoint]
every = { steps = 1 }
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
    yield Component("fragile", "fragile.callback:Fragile")
"""
#: Kills its process once, amid an epoch.
CALLBACK = """
import os, pathlib, signal

class Fragile:
    def __init__(self, mark: str, step: int) -> None:
        self.mark, self.step = pathlib.Path(mark), step

    def dovetail_batch_start(self, run, step):
        if step == self.step and not run.group.leads and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def install(folder: Path) -> None:
    """Write the plugin as a distribution that looks installed."""
    info, package = folder / "fragile-1.0.dist-info", folder / "fragile"
    info.mkdir(parents=True)
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dovetail]\nfragile = fragile.plugin\n")
    for name, text in {"__init__": "", "plugin": PLUGIN, "callback": CALLBACK}.items():
        (package / f"{name}.py").write_text(text)


def train(folder: Path, name: str, *settings: str, processes: int = 2) -> Path:
    """Train in so many processes, and return the last checkpoint."""
    path = os.pathsep.join([str(folder / "site"), *sys.path])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "dovetail",
            "run",
            "physics.toml",
            f"--nproc={processes}",
            f"run.name={name}",
            *settings,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("starting anew" in done.stderr) == ("--max-restarts" in settings)
    (run,) = (folder / "runs" / name).iterdir()
    return max((run / "checkpoints").iterdir(), key=lambda path: path.name)


@pytest.mark.slow
def test_factors_go_on_as_they_were_after_a_restart_amid_an_epoch(tmp_path):
    """Each process has seen other batches: the next factors hang on those of all, as in one with the same updates."""
    (tmp_path / "physics.toml").write_text(RUN)
    install(tmp_path / "site")
    fragile = ["callbacks.fragile.type=fragile", f"callbacks.fragile.mark={tmp_path / 'mark'}"]
    whole = train(tmp_path, "whole")
    steps = read_checkpoint(whole)["training"]["state"]["step"]
    amid = steps // 4 + steps // 8 + 1
    anew = train(tmp_path, "anew", *fragile, f"callbacks.fragile.step={amid}", "--max-restarts", "1")

    alone = train(tmp_path, "alone", "loader.batch_size=16", processes=1)

    uninterrupted, other = read_checkpoint(whole), read_checkpoint(anew)
    factors = [epoch["freq"] for epoch in uninterrupted["trainer"][0]["history"]]
    assert len(set(factors)) == 4
    assert uninterrupted["trainer"][0]["history"] == other["trainer"][0]["history"]
    assert all(bool((value == other["model"][name]).all()) for name, value in uninterrupted["model"].items())
    single = [epoch["freq"] for epoch in read_checkpoint(alone)["trainer"][0]["history"]]
    assert factors == pytest.approx(single, rel=1e-3)  # batch norms see half of each batch
