"""Memory: what is measured, and what happens to a run that is about to take more than it may."""

from __future__ import annotations

import json
import mmap
from typing import Any

import pytest
import torch

from dovetail.main import run
from dovetail.monitor import memory
from dovetail.monitor.memory import MemoryBudget, host_memory, host_peak, memory_peaks
from small_runs import only_run, small

MEGABYTE = 10**6


def test_host_memory_follows_what_is_taken():
    """A block that is written to shows in the figure of now and in the peak, and leaves the figure of now with it."""
    before = host_memory()
    with mmap.mmap(-1, 200 * MEGABYTE) as block:
        block.write(b"x" * len(block))
        with_block = host_memory()

    assert with_block - before > 150 * MEGABYTE
    assert host_peak() >= with_block
    assert host_memory() < with_block - 150 * MEGABYTE


def test_what_has_no_limit_is_never_looked_at():
    """Without a limit the next look is never due."""
    budget = MemoryBudget(torch.device("cpu"))

    assert budget.due_at == float("inf")
    assert budget.look() is None


def test_a_limit_is_reached_a_little_early(monkeypatch):
    """What has more than 95 % of its limit is reported, with the setting; a second look waits its turn."""
    monkeypatch.setattr(memory, "_SECONDS_BETWEEN_LOOKS", 3600.0)
    now = host_memory()
    roomy, tight = (
        MemoryBudget(torch.device("cpu"), main=2 * now),
        MemoryBudget(torch.device("cpu"), main=round(1.01 * now)),
    )

    assert roomy.look() is None
    excess = tight.look()
    assert excess is not None
    assert (excess.setting, excess.limit) == ("budget.memory", round(1.01 * now))
    assert tight.look() is None


def test_a_run_stops_with_a_checkpoint_before_its_memory_is_used_up(tmp_path):
    """A leak ends the run cleanly, as out of budget and with a checkpoint, long before its epochs are over."""

    class Leak:
        def __init__(self) -> None:
            self.kept: list[torch.Tensor] = []

        def dovetail_batch_end(self, step: int) -> None:
            self.kept.append(torch.ones(5 * MEGABYTE // 4))

    limit = host_memory() + 600 * MEGABYTE
    config = small(
        tmp_path,
        callbacks={"leak": Leak()},
        training={"max_epochs": 100_000},
        checkpoint={"every": {"epochs": 100_000}},
        budget={"memory": f"{limit}B"},
    )
    outcome = run(config).check()

    assert (outcome.status, outcome.stopped_by) == ("out_of_budget", "budget.memory")
    assert f"{limit}B" in outcome.reason
    folder = only_run(tmp_path)
    assert [path for path in (folder / "checkpoints").iterdir() if (path / "manifest.json").exists()]
    assert json.loads((folder / "run.json").read_text())["memory_peaks"]["main"] >= limit * 0.9


def test_the_record_has_the_peaks(tmp_path):
    """run.json says how much memory a run had at most."""
    run(small(tmp_path)).check()
    record: dict[str, Any] = json.loads((only_run(tmp_path) / "run.json").read_text())

    assert record["memory_peaks"].keys() == memory_peaks(torch.device("cpu")).keys()
    assert 50 * MEGABYTE < record["memory_peaks"]["main"] < 100_000 * MEGABYTE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_limit_on_the_gpu_holds_in_the_allocator():
    """What asks for more than the limit gets torch's error, and not the memory."""
    device = torch.device("cuda", 0)
    before = torch.cuda.memory_reserved(device)
    MemoryBudget(device, gpu=before + 100 * MEGABYTE)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.ones(200 * MEGABYTE // 4, device=device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
