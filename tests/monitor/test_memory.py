"""Memory: what is measured, and how a run stops before its limit."""

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


def test_host_memory_follows_allocations():
    """A block that is written to raises the current value and the peak; freeing it lowers the current value."""
    before = host_memory()
    with mmap.mmap(-1, 200 * MEGABYTE) as block:
        block.write(b"x" * len(block))
        with_block = host_memory()

    assert with_block - before > 150 * MEGABYTE
    assert host_peak() >= with_block
    assert host_memory() < with_block - 150 * MEGABYTE


def test_without_a_limit_no_check_is_due():
    """The time of the next check is infinite."""
    budget = MemoryBudget(torch.device("cpu"))

    assert budget.due_at == float("inf")
    assert budget.check() is None


def test_a_limit_is_reached_a_little_early(monkeypatch):
    """Above 95 % the setting is reported; a second check waits for its time."""
    monkeypatch.setattr(memory, "_CHECK_INTERVAL", 3600.0)
    now = host_memory()
    roomy, tight = (
        MemoryBudget(torch.device("cpu"), main=2 * now),
        MemoryBudget(torch.device("cpu"), main=round(1.01 * now)),
    )

    assert roomy.check() is None
    excess = tight.check()
    assert excess is not None
    assert (excess.setting, excess.limit) == ("budget.memory", round(1.01 * now))
    assert tight.check() is None


def test_a_run_stops_with_a_checkpoint_before_its_memory_is_used_up(tmp_path):
    """A leak ends the run as out of budget, with a checkpoint, long before its last epoch."""

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
    """run.json has the peak memory of the run."""
    run(small(tmp_path)).check()
    record: dict[str, Any] = json.loads((only_run(tmp_path) / "run.json").read_text())

    assert record["memory_peaks"].keys() == memory_peaks(torch.device("cpu")).keys()
    assert 50 * MEGABYTE < record["memory_peaks"]["main"] < 100_000 * MEGABYTE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_torchs_allocator_enforces_the_limit_on_the_gpu():
    """A larger allocation raises torch's out-of-memory error."""
    device = torch.device("cuda", 0)
    before = torch.cuda.memory_reserved(device)
    MemoryBudget(device, gpu=before + 100 * MEGABYTE)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.ones(200 * MEGABYTE // 4, device=device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
