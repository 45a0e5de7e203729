"""From an address to a batch: random numbers by address, whole batches, and transforms of batches."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.data.loader import make_loader
from dovetail.data.samples import Subset
from dovetail.data.transforms import Normalize
from dovetail.main import run
from sample_datasets import (
    RANDOM,
    Plain,
    Random,
    RandomCollator,
    Whole,
    draw,
    global_state,
    read,
    same,
    tensor_samples,
)
from small_runs import small


@pytest.fixture
def clean_generators() -> None:
    """Seed the global generators, so that tests do not depend on each other."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (it is meant)
    torch.manual_seed(1)


def test_get_batch_is_used_only_where_it_changes_nothing():
    """It gives the same batches, and a transform or another collator disables it."""
    dataset = Whole()
    fast = read(make_loader(dataset, batch_size=6, shuffle=True))
    assert dataset.read == [-6, -6, -6, -2]

    dataset.read.clear()
    assert same(fast, read(make_loader(Plain(), batch_size=6, shuffle=True)))
    read(make_loader(dataset, batch_size=6, transforms=[Normalize(mean=0.0, std=1.0)]))
    read(make_loader(dataset, RandomCollator(), batch_size=6))
    assert min(dataset.read) >= 0


@pytest.mark.parametrize("dataset", [tensor_samples(), Subset(tensor_samples(30), np.arange(5, 25))])
def test_samples_in_memory_give_the_same_batches_both_ways(dataset):
    """get_batch equals the default collator over single samples, meta included."""
    whole = read(make_loader(dataset, batch_size=6, shuffle=True))
    identity = [lambda sample: sample]
    one_by_one = read(make_loader(dataset, batch_size=6, shuffle=True, transforms=identity))

    assert same(whole, one_by_one)
    for first, second in zip(whole, one_by_one, strict=True):
        assert torch.equal(first["meta"]["rpm"], second["meta"]["rpm"])
        assert first["meta"]["rpm"].dtype is second["meta"]["rpm"].dtype


@pytest.mark.parametrize("kind", RANDOM)
def test_random_parts_are_addressed(kind, clean_generators):
    """Random numbers depend on seed, epoch and sample: not on earlier draws, nor on the first batch read."""
    loader = RANDOM[kind]()
    first = read(loader, 1)
    draw()

    assert same(read(loader, 1), first)
    assert same(read(RANDOM[kind](), 1, 2), first[2:])
    assert not same(read(loader, 2), first)


@pytest.mark.parametrize("kind", RANDOM)
def test_the_global_generators_keep_their_state(kind, clean_generators):
    """Dropout draws the same numbers, whatever the loader does."""
    before = global_state()

    read(RANDOM[kind]())

    assert global_state() == before


def test_a_sample_draws_the_same_in_any_batch():
    """Random numbers belong to the sample, not to its place in a batch."""
    by_two = read(make_loader(Random(), batch_size=2, seed=5))
    by_five = read(make_loader(Random(), batch_size=5, seed=5))

    first, second = (torch.cat([batch["inputs"] for batch in batches]) for batches in (by_two, by_five))
    assert torch.equal(first, second)


# --- transforms of batches --------------------------------------------------------------------------------------------


class Signals:
    """Twenty signals of eight values."""

    targets = torch.arange(20) % 2
    deterministic = True

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return torch.full((8,), float(index)), int(self.targets[index])


class Noise:
    """Adds noise by address to whole batches."""

    def transform_batch(self, batch, draws):
        """Return the batch with noise."""
        return {**batch, "inputs": batch["inputs"] + draws.normal("noise", tuple(batch["inputs"].shape[1:]))}


def drawn(**options) -> dict[int, torch.Tensor]:
    """Return each sample's noisy input by its index, in epoch 3."""
    loader = make_loader(Signals(), transforms=[Noise(), Noise()], seed=5, **options)
    return dict(enumerate(torch.cat([batch["inputs"] for batch in loader.batches(3)])))


@settings(max_examples=20)
@given(st.integers(1, 20))
def test_noise_of_a_batch_transform_belongs_to_the_sample(batch_size):
    """The batch size and the first batch read do not matter."""
    whole = drawn(batch_size=20)
    parts = drawn(batch_size=batch_size)
    loader = make_loader(Signals(), transforms=[Noise(), Noise()], seed=5, batch_size=batch_size)
    later = torch.cat([batch["inputs"] for batch in loader.batches(3, 1)] or [torch.empty(0, 8)])

    assert all(torch.equal(whole[number], parts[number]) for number in whole)
    assert torch.equal(later, torch.stack(list(whole.values()))[batch_size:])


def test_two_transforms_and_two_epochs_draw_different_numbers():
    """Two noises do not add up to twice the same, and epochs differ."""
    once = make_loader(Signals(), transforms=[Noise()], batch_size=20)
    twice = make_loader(Signals(), transforms=[Noise(), Noise()], batch_size=20)
    clean = make_loader(Signals(), batch_size=20)
    (first,), (second,), (other,), (plain,) = (
        [batch["inputs"] for batch in found]
        for found in (once.batches(1), twice.batches(1), once.batches(2), clean.batches(1))
    )

    assert not torch.allclose(second - plain, 2 * (first - plain))
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_batch_transforms_are_the_same_with_workers():
    """Batches that workers read get the same noise."""
    alone = make_loader(Signals(), transforms=[Noise()], batch_size=6, shuffle=True)
    helped = make_loader(Signals(), transforms=[Noise()], batch_size=6, shuffle=True, num_workers=2)

    for epoch in (1, 2):
        pairs = zip(alone.batches(epoch, 1), helped.batches(epoch, 1), strict=True)
        assert all(torch.equal(batch["inputs"], other["inputs"]) for batch, other in pairs)


def test_reread_gives_the_batch_of_the_epoch():
    """Also for another dataset; transforms of batches can be left out."""
    loader = make_loader(Signals(), batch_size=4, seed=3, transforms=[Noise()])
    first = next(iter(loader.batches(2)))
    indices = loader.indices(2, 0)

    for again in (loader, loader.with_dataset(Signals())):
        assert torch.equal(again.reread(2, indices)["inputs"], first["inputs"])
    raw = loader.reread(2, indices, whole=False)["inputs"]
    assert not torch.equal(raw, first["inputs"])
    assert torch.equal(raw, next(iter(make_loader(Signals(), batch_size=4, seed=3).batches(2)))["inputs"])


def test_a_transform_of_samples_cannot_follow_one_of_batches():
    """The message names it."""
    with pytest.raises(ValueError, match="move Normalize up"):
        make_loader(Signals(), transforms=[Noise(), Normalize(mean=0.0, std=1.0)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_moved_before_they_are_transformed():
    """The transform runs on the model's device."""
    loader = make_loader(Signals(), transforms=[Noise()], batch_size=20, device=torch.device("cuda"))

    assert next(iter(loader))["inputs"].is_cuda


def test_a_run_applies_batch_transforms_to_training_only(tmp_path):
    """A transform object applies to the splits of its table: validation gets clean inputs."""
    seen = []

    class Looks:
        def transform_batch(self, batch, draws):
            seen.append((draws.epoch, len(batch["inputs"])))
            return batch

    config = Config.from_dict(
        {
            "run": {"name": "small"},
            "data": {"type": "digits", "split": {"limit": 40}},
            "model": {"type": "mlp", "hidden_dims": [4]},
            "loss": {"type": "cross_entropy"},
            "optimizer": {"type": "adamw"},
            "loader": {"batch_size": 10},
            "training": {"max_epochs": 2},
            "transforms": {"looks": Looks()},
            "report": {"enabled": False},
            "logging": {"console": False},
            "paths": {"output": str(tmp_path)},
        }
    )
    assert run(config.build()).status == "completed"

    # Before training, one call tells the model the shape of its input, and others whether the transform is random.
    assert seen[-8:] == [(1, 10)] * 4 + [(2, 10)] * 4
    assert {count for _, count in seen[:-8]} <= {1, 8}


class Picky:
    """A transform of batches that accepts inputs of one length."""

    def __init__(self, size: int) -> None:
        self.size = size

    def transform_batch(self, batch, draws):
        """Refuse what is of another shape."""
        if batch["inputs"].shape[-1] != self.size:
            raise ValueError(f"needs {self.size} values")
        return batch


def test_a_run_names_the_transform_that_fails(tmp_path):
    """The error is at the transform's table, not at the data's."""
    with pytest.raises(ConfigError, match=r"transforms\.second: needs 5 values"):
        run(small(tmp_path, transforms={"first": Picky(4), "second": Picky(5), "third": Picky(4)}))
