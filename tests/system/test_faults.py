"""Reliability 2: every file operation fails in turn, by a library that stands between us and the C library."""

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
    """Yield a folder in main memory where there is one: thousands of flushes then take no time."""
    shared = Path("/dev/shm")  # noqa: S108 (a file system, not a file)
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_whichever_operation_fails_nothing_is_lost_or_half_there(tmp_path, fast_disk):
    """Opening, reading, writing (by halves), flushing, locking, renaming, removing: once, from then on, or by a kill.

    After each, the older checkpoint or the new one is there, whole, and what failed says which file it was.
    """
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler here")
    library = tmp_path / "faults.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, FAULTS / "faults.c", "-ldl"], check=True, text=True
    )

    done = subprocess.run(
        [sys.executable, FAULTS / "tried.py", fast_disk],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    careless = [one for one in told["wrong"] if one.startswith("careless")]
    assert [one for one in told["wrong"] if one not in careless] == []
    assert any("the weights are half there" in one for one in careless)
    least = {"save": 50, "save_in_background": 50, "copy": 10, "export": 15, "load": 25}
    for task, number in least.items():
        assert len(told["tried"][task]) == 4
        assert min(told["tried"][task].values()) >= number


@pytest.mark.parametrize("background", [False, True])
def test_a_run_whose_disk_fills_up_keeps_its_checkpoints(tmp_path, background):
    """Reliability 3: it fails with the path and the bytes needed; what was saved before is whole."""
    with small_disk(tmp_path, "2m") as disk:
        config = small(
            tmp_path / "runs",
            model=torch.nn.Sequential(torch.nn.Linear(4, 6000), torch.nn.ReLU(), torch.nn.Linear(6000, 3)),
            checkpoint={"every": {"steps": 2}, "background": background, "keep_last": 9},
            paths={"output": str(tmp_path / "runs"), "models": str(disk)},
        )
        outcome = run(config)
        folder = disk / "run" / only_run(tmp_path / "runs").name
        refused: list[Exception] = []
        found = list_checkpoints(folder, refused.append)

        assert outcome.status == "failed"
        assert isinstance(outcome.error, StorageError)
        assert "there is no space left on the disk: " in outcome.reason
        assert str(folder) in outcome.reason
        assert refused == []
        assert len(found) >= 2
        for one in found:
            verify(one.path)


class Fills:
    """A callback that fills the disk in the second epoch, or at the end."""

    def __init__(self, path: Path | None, at: str) -> None:
        """Remember which disk, None for none, and when."""
        self.path, self.at = path, at

    def dovetail_epoch_start(self, epoch: int) -> None:
        """Fill it."""
        self._fill(f"epoch {epoch}")

    def dovetail_run_end(self) -> None:
        """Fill it."""
        self._fill("end")

    def _fill(self, now: str) -> None:
        if self.path is not None and now == self.at:
            with contextlib.suppress(OSError), (self.path / "fill").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))


@pytest.mark.parametrize("at", ["epoch 2", "end"])
def test_a_run_on_a_full_disk_says_so(tmp_path, capfd, at):
    """Record, figures and log are on it too: one message with the path, no traceback, and the run goes on later."""
    with small_disk(tmp_path, "1m") as disk:
        outcome = run(small(disk, callbacks={"fills": Fills(disk, at)}))
        (disk / "fill").unlink()
        folder = only_run(disk)
        said = capfd.readouterr().err
        again = resume(folder, small(disk, callbacks={"fills": Fills(None, at)}))

        lines = (folder / "metrics.jsonl").read_text().splitlines()

        assert outcome.status == "failed"
        assert re.search(
            rf"{folder}/\S+: cannot write this: there is no space left .* needed, 0 bytes free", outcome.reason
        )
        assert "Traceback" not in said
        assert again.status == "completed"
        epochs = [one["epoch"] for line in lines if (one := json.loads(line))["event"] == "epoch"]
        assert epochs == [1, 2]
