"""Tests of loaders: the same batches however they are read, and no trace left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.batch import Batch
from dovetail.data.collators import DefaultCollator
from dovetail.data.errors import DataError, LoaderWorkerError
from dovetail.data.loader import Loader, make_loader
from dovetail.data.sampler import AddressedSampler
from dovetail.data.samples import Subset, TensorSamples
from dovetail.data.transforms import GaussianNoise, Normalize


class Plain:
    """A dataset of (input, target) tuples without any of the optional attributes."""

    def __init__(self, length: int = 20) -> None:
        self.length = length
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read.append(index)
        return torch.full((3,), float(index)), index


class Whole(Plain):
    """A dataset that can be read a batch at a time."""

    deterministic = True

    def get_batch(self, indices: np.ndarray) -> Batch:
        """Return a batch, and note that it was asked for."""
        batch = DefaultCollator()([self[int(index)] for index in indices])
        self.read[-len(indices) :] = [-len(indices)]
        return batch


def draw() -> torch.Tensor:
    """Draw from all three global generators, as third parties do."""
    return torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])  # noqa: NPY002, S311 (they are meant)


class Draws(Plain):
    """A dataset that draws from all three global generators."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return draw(), index


def noisy(sample: tuple[torch.Tensor, int]) -> tuple[torch.Tensor, int]:
    """Add random numbers to a sample."""
    return sample[0] + draw(), sample[1]


class MixesBatches:
    """A collator that draws random numbers."""

    def __call__(self, samples: list) -> Batch:
        """Scale a batch by a random number."""
        batch = DefaultCollator()(samples)
        return Batch(inputs=batch["inputs"] * torch.rand(()), targets=batch["targets"])


def small(length: int = 20) -> TensorSamples:
    """Return samples in memory."""
    inputs = torch.arange(float(length))[:, None]
    return TensorSamples(inputs, torch.arange(length) % 2, ("a", "b"), "digest", {"rpm": np.arange(length)}, ("rpm",))


def read(loader: Loader, epoch: int = 0, start_batch: int = 0) -> list[Batch]:
    """Return the batches of an epoch."""
    return list(loader.batches(epoch, start_batch))


def same(first: list[Batch], second: list[Batch]) -> bool:
    """Say whether two lists of batches are equal to the last bit."""
    return len(first) == len(second) and all(
        torch.equal(one["inputs"], other["inputs"]) and torch.equal(one["targets"], other["targets"])
        for one, other in zip(first, second, strict=True)
    )


def numbers(batches: list[Batch]) -> list[int]:
    """Return the targets of batches, which in Plain are the samples' numbers."""
    return [int(target) for batch in batches for target in batch["targets"]]


def global_state() -> tuple:
    """Return the state of every global generator."""
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002 (it is meant)


@pytest.fixture
def clean_generators() -> None:
    """Seed the global generators, so that tests do not depend on each other."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (it is meant)
    torch.manual_seed(1)


# --- the order ------------------------------------------------------------------------------------------------------


@given(
    st.builds(
        AddressedSampler, st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(0, 3), st.booleans()
    ),
    st.integers(0, 3),
)
def test_an_epoch_has_every_sample_once(sampler, epoch):
    """In batches of the right size, of which the last may be smaller, or left out."""
    length, batch_size = sampler.length, sampler.batch_size

    batches = [indices.tolist() for _, indices in sampler.batches(epoch)]

    flat = list(chain(*batches))
    assert len(batches) == len(sampler)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(set(flat)) == len(flat)
    assert len(flat) == (length // batch_size * batch_size if sampler.drop_last else length)
    assert [(epoch, index) for index in flat] == list(sampler.samples(epoch))
    assert sampler.shuffle or flat == sorted(flat)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3), st.data())
def test_later_batches_do_not_depend_on_those_before(length, batch_size, epoch, data):
    """Starting at any batch gives what would have come."""
    sampler = AddressedSampler(length, batch_size, shuffle=True, seed=7)
    start = data.draw(st.integers(0, len(sampler)))

    whole = [indices.tolist() for _, indices in sampler.batches(epoch)]

    assert [indices.tolist() for _, indices in sampler.batches(epoch, start)] == whole[start:]


def test_the_order_depends_on_seed_and_epoch_only():
    """Not on the batch size, nor on the epochs that came before; and it is pinned, so that no version changes it."""
    addresses = [(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    orders = {(seed, epoch): AddressedSampler(8, 3, True, seed).order(epoch).tolist() for seed, epoch in addresses}

    assert AddressedSampler(8, 5, True, 1).order(1).tolist() == orders[1, 1]
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[0, 0] == [5, 0, 3, 2, 7, 1, 4, 6]


def test_the_order_is_close_to_uniform():
    """Every sample is about as often first as any other."""
    firsts = [int(AddressedSampler(6, 1, True, seed).order(0)[0]) for seed in range(3000)]

    counts = np.bincount(firsts, minlength=6)

    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi-squared with 5 degrees of freedom: one in a thousand


def test_set_epoch_chooses_what_iterating_gives():
    """As with torch's own distributed sampler."""
    loader = make_loader(Plain(), batch_size=4, shuffle=True)
    loader.set_epoch(3)

    assert same(list(loader), read(loader, 3))
    assert not same(list(loader), read(loader, 2))


# --- reading --------------------------------------------------------------------------------------------------------


def test_batches_before_the_first_wanted_are_not_read():
    """Resuming in the middle of an epoch costs nothing."""
    dataset = Plain()
    loader = make_loader(dataset, batch_size=4, shuffle=True, seed=3)
    whole = read(loader, 1)
    dataset.read.clear()

    rest = read(loader, 1, 3)

    assert same(rest, whole[3:])
    assert dataset.read == numbers(rest)
    assert read(loader, 1, 5) == []


@pytest.mark.parametrize("start", [-1, 6])
def test_a_batch_that_does_not_exist_cannot_be_started_from(start):
    """The message says which there are."""
    with pytest.raises(ValueError, match="between 0 and 5"):
        make_loader(Plain(), batch_size=4).batches(0, start)


def test_whole_batches_are_read_where_nothing_stands_between():
    """The fast way gives what the slow one gives, and is used only where it may be."""
    dataset = Whole()
    fast = read(make_loader(dataset, batch_size=6, shuffle=True))
    assert dataset.read == [-6, -6, -6, -2]

    dataset.read.clear()
    assert same(fast, read(make_loader(Plain(), batch_size=6, shuffle=True)))
    read(make_loader(dataset, batch_size=6, transforms=[Normalize(mean=0.0, std=1.0)]))
    read(make_loader(dataset, MixesBatches(), batch_size=6))
    assert min(dataset.read) >= 0


@pytest.mark.parametrize("dataset", [small(), Subset(small(30), np.arange(5, 25))])
def test_samples_in_memory_give_the_same_batches_both_ways(dataset):
    """get_batch is what the default collator makes of the samples, meta included."""
    whole = read(make_loader(dataset, batch_size=6, shuffle=True))
    identity = [lambda sample: sample]
    one_by_one = read(make_loader(dataset, batch_size=6, shuffle=True, transforms=identity))

    assert same(whole, one_by_one)
    for first, second in zip(whole, one_by_one, strict=True):
        assert torch.equal(first["meta"]["rpm"], second["meta"]["rpm"])
        assert first["meta"]["rpm"].dtype is second["meta"]["rpm"].dtype


def test_the_loader_tells_its_sizes():
    """Batches, samples in an epoch, samples in a batch."""
    loader = make_loader(Plain(), batch_size=6)
    dropping = make_loader(Plain(), batch_size=6, drop_last=True)

    assert (len(loader), loader.num_samples, loader.batch_size) == (4, 20, 6)
    assert (len(dropping), dropping.num_samples) == (3, 18)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"batch_size": 21, "drop_last": True}, "no batch comes out of 20 samples with batch_size = 21 and drop_last"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    """Before anything is read."""
    with pytest.raises(ValueError, match=message):
        make_loader(Plain(), **options)


def test_pinning_on_a_machine_without_a_gpu():
    """By default nothing is pinned there; asking for it is an error of torch's that says so."""
    if torch.cuda.is_available():
        batch = next(iter(make_loader(small(), batch_size=4)))
        assert batch["inputs"].is_pinned()
        assert batch["meta"]["rpm"].is_pinned()
    else:
        assert not next(iter(make_loader(small(), batch_size=4)))["inputs"].is_pinned()


# --- random numbers -------------------------------------------------------------------------------------------------

RANDOM = {
    "dataset": lambda **others: make_loader(Draws(), batch_size=6, shuffle=True, seed=5, **others),
    "transform": lambda **others: make_loader(
        Plain(), batch_size=6, shuffle=True, seed=5, transforms=[noisy, GaussianNoise(std=0.5)], **others
    ),
    "collator": lambda **others: make_loader(Plain(), MixesBatches(), batch_size=6, shuffle=True, seed=5, **others),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_random_parts_are_addressed(kind, clean_generators):
    """What is drawn depends on seed, epoch and sample: not on what was drawn before, nor on where reading began."""
    loader = RANDOM[kind]()
    first = read(loader, 1)
    draw()

    assert same(read(loader, 1), first)
    assert same(read(RANDOM[kind](), 1, 2), first[2:])
    assert not same(read(loader, 2), first)


@pytest.mark.parametrize("kind", RANDOM)
def test_the_global_generators_are_left_as_they_were(kind, clean_generators):
    """Dropout draws the same numbers whatever the loader did."""
    before = global_state()

    read(RANDOM[kind]())

    assert global_state() == before


def test_a_sample_draws_the_same_in_any_batch():
    """The numbers belong to the sample, not to its place in a batch."""
    by_two = read(make_loader(Draws(), batch_size=2, seed=5))
    by_five = read(make_loader(Draws(), batch_size=5, seed=5))

    first, second = (torch.cat([batch["inputs"] for batch in batches]) for batches in (by_two, by_five))
    assert torch.equal(first, second)


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*RANDOM, "memory"])
def test_workers_change_nothing(kind, clean_generators):
    """None, one or two processes: the same batches in every epoch, from any start, and the generators untouched."""
    makers = RANDOM | {"memory": lambda **others: make_loader(small(), batch_size=6, shuffle=True, **others)}
    expected = [read(makers[kind](), epoch, start) for epoch, start in ((0, 0), (1, 2), (5, 0))]
    before = global_state()
    for workers in (1, 2):
        loader = makers[kind](num_workers=workers)
        for wanted, (epoch, start) in zip(expected, ((0, 0), (1, 2), (5, 0)), strict=True):
            assert same(read(loader, epoch, start), wanted)
    assert global_state() == before


@pytest.mark.slow
def test_an_iteration_may_be_left_in_the_middle():
    """The workers' batches that were on their way do not turn up in the next one."""
    loader = make_loader(small(), batch_size=2, shuffle=True, num_workers=2)
    begun = loader.batches(0)
    next(begun)

    assert same(read(loader, 1), read(make_loader(small(), batch_size=2, shuffle=True), 1))


@pytest.mark.slow
def test_workers_leave_at_once(monkeypatch):
    """When the loader goes, nobody waits for its workers in vain and ends them then: they are told."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 60.0)  # for a machine that is slow
    loader = make_loader(small(), batch_size=4, num_workers=2)
    read(loader)
    workers = loader._workers._iterator._workers

    del loader

    assert [one.exitcode for one in workers] == [0, 0]


class Faulty(Plain):
    """A dataset with a sample that cannot be read."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 7:
            raise DataError("data.csv:9: a quote that opens in this row is never closed")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_data_error_comes_as_it_is(workers):
    """One message, without a worker's traceback in it."""
    with pytest.raises(DataError) as caught:
        read(make_loader(Faulty(), batch_size=4, num_workers=workers))

    assert str(caught.value) == "data.csv:9: a quote that opens in this row is never closed"


class Slow(Plain):
    """A dataset that takes its time."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.05)
        return super().__getitem__(index)


@pytest.mark.slow
def test_a_killed_worker_is_reported():
    """Reliability 11: with what usually is the reason."""
    loader = make_loader(Slow(200), batch_size=4, num_workers=2)
    batches = loader.batches(0)
    next(batches)
    os.kill(next(iter(loader._workers._iterator._workers)).pid, signal.SIGKILL)

    with pytest.raises(LoaderWorkerError, match=r"was killed by SIGKILL\. .* fewer workers \(loader\.num_workers\)"):
        list(batches)


class OddError(ValueError):
    """An error that pickle cannot make anew."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


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
def test_an_error_of_a_worker_is_that_of_the_dataset(error, kind, said):
    """Whatever its class; where it arose is among its notes, and so in the log."""
    with pytest.raises(kind) as caught:
        read(make_loader(Raising(error), batch_size=4, num_workers=1))

    assert str(caught.value) == said
    notes = (caught.value.__cause__ or caught.value).__notes__
    assert "in __getitem__" in "".join(notes)


def test_a_dataset_that_runs_out_ends_no_epoch_unnoticed():
    """A StopIteration of its own is an error, and not the end of the batches."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        read(make_loader(Raising(StopIteration()), batch_size=4))


class Unsendable(Plain):
    """A dataset of which one sample holds what cannot be pickled."""

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"inputs": torch.zeros(3), "targets": index, "note": (lambda: index) if index == 7 else None}


@pytest.mark.slow
def test_a_batch_that_cannot_be_sent_is_not_waited_for():
    """It is an error that says so, and not a wait without end."""
    loader = make_loader(Unsendable(), collator=lambda samples: {"rows": samples}, batch_size=4, num_workers=1)

    with pytest.raises(TypeError, match=r"cannot hand its batch on, .*pickle"):
        read(loader)


class Leaving(Plain):
    """A dataset whose worker ends at one sample."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 7:
            sys.exit(3)
        return super().__getitem__(index)


@pytest.mark.slow
def test_a_worker_that_ends_is_not_short_of_memory():
    """Its exit code is told, and how to see what ended it."""
    with pytest.raises(LoaderWorkerError, match=r"ended with exit code 3, .* loader\.num_workers = 0"):
        read(make_loader(Leaving(), batch_size=4, num_workers=1))


@pytest.mark.slow
def test_a_death_is_told_where_the_worker_is_waited_for():
    """And not wherever the process is at that moment, which may be in the midst of a save."""
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
def test_the_death_of_another_loaders_worker_is_that_loaders():
    """Workers of training live on during a validation, and may die in it: training learns of it when it goes on."""
    one, other = (make_loader(Slow(40), batch_size=4, num_workers=1) for _ in range(2))
    held, batches = one.batches(0), other.batches(0)
    next(held), next(batches)
    os.kill(one._workers._iterator._workers[0].pid, signal.SIGKILL)

    assert len(list(batches)) == 9
    with pytest.raises(LoaderWorkerError, match="SIGKILL"):
        list(held)


@pytest.mark.slow
def test_a_handler_of_ones_own_comes_back(monkeypatch):
    """Torch's goes when the workers are there."""

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
def test_a_hanging_worker_ends_with_the_process_that_trains():
    """Killed, that one can tell nobody; the worker sees that it is gone, although it never asks for another batch."""
    parent = subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True)
    worker = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    parent.kill()
    parent.communicate()

    while worker.exists() and worker.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.05)
