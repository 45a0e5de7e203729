"""Loader workers: the same batches, and errors and deaths that are reported."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dovetail.data.errors import DataError, LoaderWorkerError
from dovetail.data.loader import make_loader
from sample_datasets import (
    RANDOM,
    Plain,
    Slow,
    global_state,
    read,
    same,
    tensor_samples,
)


@pytest.fixture
def clean_generators() -> None:
    """Seed the global generators, so that tests do not depend on each other."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (it is meant)
    torch.manual_seed(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*RANDOM, "memory"])
def test_workers_change_nothing(kind, clean_generators):
    """Every epoch has the same batches from any start, and the global generators keep their state."""
    makers = RANDOM | {"memory": lambda **others: make_loader(tensor_samples(), batch_size=6, shuffle=True, **others)}
    expected = [read(makers[kind](), epoch, start) for epoch, start in ((0, 0), (1, 2), (5, 0))]
    before = global_state()
    for workers in (1, 2):
        loader = makers[kind](num_workers=workers)
        for wanted, (epoch, start) in zip(expected, ((0, 0), (1, 2), (5, 0)), strict=True):
            assert same(read(loader, epoch, start), wanted)
    assert global_state() == before


@pytest.mark.slow
def test_an_iteration_may_be_left_in_the_middle():
    """Batches that were on their way do not appear in the next iteration."""
    loader = make_loader(tensor_samples(), batch_size=2, shuffle=True, num_workers=2)
    begun = loader.batches(0)
    next(begun)

    assert same(read(loader, 1), read(make_loader(tensor_samples(), batch_size=2, shuffle=True), 1))


@pytest.mark.slow
def test_workers_exit_with_their_loader(monkeypatch):
    """They are told to stop, so that the process does not wait for a timeout."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 60.0)  # for a machine that is slow
    loader = make_loader(tensor_samples(), batch_size=4, num_workers=2)
    read(loader)
    workers = loader._workers._iterator._workers

    del loader

    assert [worker.exitcode for worker in workers] == [0, 0]


class Faulty(Plain):
    """A dataset with a sample that cannot be read."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 7:
            raise DataError("data.csv:9: a quote that opens in this row is never closed")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_data_error_is_raised_unchanged(workers):
    """The message does not contain a worker's traceback."""
    with pytest.raises(DataError) as caught:
        read(make_loader(Faulty(), batch_size=4, num_workers=workers))

    assert str(caught.value) == "data.csv:9: a quote that opens in this row is never closed"


@pytest.mark.slow
def test_a_killed_worker_is_reported():
    """The message names the signal and the usual cause (reliability 11)."""
    loader = make_loader(Slow(200), batch_size=4, num_workers=2)
    batches = loader.batches(0)
    next(batches)
    os.kill(next(iter(loader._workers._iterator._workers)).pid, signal.SIGKILL)

    with pytest.raises(LoaderWorkerError, match=r"killed by SIGKILL\. .*lack of memory: try fewer workers"):
        list(batches)


class OddError(ValueError):
    """An error that pickle cannot rebuild."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Raising(Plain):
    """A dataset that raises an error for one sample."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 7:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error,kind,said",
    [
        (KeyError("x17"), KeyError, "'x17'"),
        (ValueError("this sample is rotten"), ValueError, "this sample is rotten"),
        (OddError("left", "right"), RuntimeError, "OddError: left and right"),
        (StopIteration("none is left"), RuntimeError, "generator raised StopIteration"),
    ],
)
def test_a_worker_raises_the_error_of_the_dataset(error, kind, said):
    """The class is the same, and a note gives the place in the worker, and so in the log."""
    with pytest.raises(kind) as caught:
        read(make_loader(Raising(error), batch_size=4, num_workers=1))

    assert str(caught.value) == said
    notes = (caught.value.__cause__ or caught.value).__notes__
    assert "in __getitem__" in "".join(notes)


def test_a_stop_iteration_in_a_dataset_is_an_error():
    """It does not silently end the epoch."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        read(make_loader(Raising(StopIteration()), batch_size=4))


class Unsendable(Plain):
    """A dataset with a sample that cannot be pickled."""

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"inputs": torch.zeros(3), "targets": index, "note": (lambda: index) if index == 7 else None}


@pytest.mark.slow
def test_a_batch_that_cannot_be_pickled_is_an_error():
    """The parent does not wait for it forever."""
    loader = make_loader(Unsendable(), collator=lambda samples: {"rows": samples}, batch_size=4, num_workers=1)

    with pytest.raises(TypeError, match=r"cannot send its batch, .*pickle"):
        read(loader)


class Exiting(Plain):
    """A dataset that exits its worker at one sample."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 7:
            sys.exit(3)
        return super().__getitem__(index)


@pytest.mark.slow
def test_a_worker_that_exits_is_reported_with_its_code():
    """The message says how to find the cause, and nothing about memory."""
    with pytest.raises(LoaderWorkerError, match=r"exited with code 3 .* loader\.num_workers = 0"):
        read(make_loader(Exiting(), batch_size=4, num_workers=1))


@pytest.mark.slow
def test_a_death_is_reported_where_the_batch_is_requested():
    """The process may be in the middle of a save when the worker dies."""
    loader = make_loader(Slow(200), batch_size=4, num_workers=1)
    batches = loader.batches(0)
    next(batches)
    (worker,) = loader._workers._iterator._workers
    os.kill(worker.pid, signal.SIGKILL)

    while worker.is_alive():
        time.sleep(0.01)  # torch's handler would raise here
    assert worker.exitcode == -signal.SIGKILL
    with pytest.raises(LoaderWorkerError, match="SIGKILL"):
        list(batches)


@pytest.mark.slow
def test_a_dead_worker_does_not_disturb_another_loader():
    """A worker of training that dies during a validation is reported when training continues."""
    loader, other = (make_loader(Slow(40), batch_size=4, num_workers=1) for _ in range(2))
    held, batches = loader.batches(0), other.batches(0)
    next(held), next(batches)
    os.kill(loader._workers._iterator._workers[0].pid, signal.SIGKILL)

    assert len(list(batches)) == 9
    with pytest.raises(LoaderWorkerError, match="SIGKILL"):
        list(held)


@pytest.mark.slow
def test_the_users_sigchld_handler_is_restored(monkeypatch):
    """Torch's handler is removed once the workers run."""

    def own(*_: object) -> None:
        """Hear of children."""

    before = signal.signal(signal.SIGCHLD, own)
    monkeypatch.setattr(torch.utils.data._utils.signal_handling, "_SIGCHLD_handler_set", False)
    try:
        next(make_loader(Plain(), batch_size=4, num_workers=1).batches(0))
        after = signal.getsignal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert after is own


HANGING = """
import os, time
from dovetail.data.loader import make_loader

class Hanging:
    def __len__(self):
        return 9
    def __getitem__(self, index):
        print(os.getpid(), flush=True)
        time.sleep(10_000)

list(make_loader(Hanging(), num_workers=1))
"""


@pytest.mark.slow
def test_a_hanging_worker_exits_when_its_parent_is_killed():
    """It notices by itself, although it never requests another batch."""
    parent = subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True)
    worker = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    parent.kill()
    parent.communicate()

    while worker.exists() and worker.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.05)
