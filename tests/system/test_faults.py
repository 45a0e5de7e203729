"""Reliability 2 and 3: every file operation fails in turn, by a preloaded library; and disks that fill up."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from dovetail.checkpoint.listing import list_checkpoints
from dovetail.checkpoint.verify import verify
from dovetail.main import resume, run
from dovetail.storage.errors import StorageError
from small_disks import small_disk
from small_runs import only_run, small

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture
def fast_disk(tmp_path):
    """Yield a folder in memory, if there is one, where thousands of flushes take no time."""
    shared = Path("/dev/shm")  # noqa: S108 (a file system, not a file)
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_no_failing_operation_loses_or_damages_data(tmp_path, fast_disk):
    """Opening, reading, writing, flushing, locking, renaming and removing fail once, for good, or by a kill.

    After each, the older or the newer checkpoint is intact, and the error names the file.
    """
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler here")
    library = tmp_path / "faults.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, FAULTS / "faults.c", "-ldl"], check=True, text=True
    )

    done = subprocess.run(
        [sys.executable, FAULTS / "inject.py", fast_disk],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    careless = [problem for problem in report["wrong"] if problem.startswith("careless")]
    assert [problem for problem in report["wrong"] if problem not in careless] == []
    assert any("the weights are half there" in problem for problem in careless)
    least = {"save": 50, "save_in_background": 50, "copy": 10, "export": 15, "load": 25}
    for task, number in least.items():
        assert len(report["tried"][task]) == 4
        assert min(report["tried"][task].values()) >= number


@pytest.mark.parametrize("background", [False, True])
def test_a_run_whose_disk_fills_up_keeps_its_checkpoints(tmp_path, background):
    """Reliability 3: the run fails with the path and the bytes needed; earlier checkpoints are intact."""
    with small_disk(tmp_path, "2m") as disk:
        config = small(
            tmp_path / "runs",
            model=torch.nn.Sequential(torch.nn.Linear(4, 6000), torch.nn.ReLU(), torch.nn.Linear(6000, 3)),
            checkpoint={"every": {"steps": 2}, "background": background, "keep_last": 9},
            paths={"output": str(tmp_path / "runs"), "models": str(disk)},
        )
        outcome = run(config)
        folder = disk / "run" / only_run(tmp_path / "runs").name
        damaged: list[Exception] = []
        found = list_checkpoints(folder, damaged.append)

        assert outcome.status == "failed"
        assert isinstance(outcome.error, StorageError)
        assert "there is no space left on the disk: " in outcome.reason
        assert str(folder) in outcome.reason
        assert damaged == []
        assert len(found) >= 2
        for checkpoint in found:
            verify(checkpoint.path)


class Fills:
    """A callback that fills the disk in the second epoch or at the end."""

    def __init__(self, path: Path | None, at: str) -> None:
        """Set the disk, or None to fill none, and the time."""
        self.path, self.at = path, at

    def dovetail_epoch_start(self, epoch: int) -> None:
        """Fill the disk, if it is time."""
        self._fill(f"epoch {epoch}")

    def dovetail_run_end(self) -> None:
        """Fill the disk, if it is time."""
        self._fill("end")

    def _fill(self, now: str) -> None:
        if self.path is not None and now == self.at:
            with contextlib.suppress(OSError), (self.path / "fill").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))


@pytest.mark.parametrize("at", ["epoch 2", "end"])
def test_a_run_on_a_full_disk_fails_with_one_message(tmp_path, capfd, at):
    """Record, metrics and log are on the disk too; the run prints no traceback, and can be resumed later."""
    with small_disk(tmp_path, "1m") as disk:
        outcome = run(small(disk, callbacks={"fills": Fills(disk, at)}))
        (disk / "fill").unlink()
        folder = only_run(disk)
        errors = capfd.readouterr().err
        resumed = resume(folder, small(disk, callbacks={"fills": Fills(None, at)}))

        lines = (folder / "metrics.jsonl").read_text().splitlines()

        assert outcome.status == "failed"
        assert re.search(
            rf"{folder}/\S+: cannot write this: there is no space left .* needed, 0 bytes free", outcome.reason
        )
        assert "Traceback" not in errors
        assert resumed.status == "completed"
        epochs = [event["epoch"] for line in lines if (event := json.loads(line))["event"] == "epoch"]
        assert epochs == [1, 2]
