"""Loaders: epochs, starts, sizes, and refused options."""

from __future__ import annotations

import pytest
import torch

from dovetail.data.loader import make_loader
from sample_datasets import (
    Plain,
    numbers,
    read,
    same,
    tensor_samples,
)


def test_set_epoch_sets_the_epoch_of_the_next_iteration():
    """As with torch's distributed sampler."""
    loader = make_loader(Plain(), batch_size=4, shuffle=True)
    loader.set_epoch(3)

    assert same(list(loader), read(loader, 3))
    assert not same(list(loader), read(loader, 2))


def test_batches_before_the_start_are_not_read():
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
def test_a_start_outside_the_epoch_is_refused(start):
    """The message gives the range."""
    with pytest.raises(ValueError, match="between 0 and 5"):
        make_loader(Plain(), batch_size=4).batches(0, start)


def test_sizes_of_a_loader():
    """Batches and samples in an epoch, and samples in a batch."""
    loader = make_loader(Plain(), batch_size=6)
    dropping = make_loader(Plain(), batch_size=6, drop_last=True)

    assert (len(loader), loader.num_samples, loader.batch_size) == (4, 20, 6)
    assert (len(dropping), dropping.num_samples) == (3, 18)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"batch_size": 21, "drop_last": True}, "an epoch has no batch: 20 samples with batch_size = 21 and drop_last"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    """The error comes before anything is read."""
    with pytest.raises(ValueError, match=message):
        make_loader(Plain(), **options)


def test_batches_are_pinned_if_there_is_a_gpu():
    """By default, and meta too."""
    if torch.cuda.is_available():
        batch = next(iter(make_loader(tensor_samples(), batch_size=4)))
        assert batch["inputs"].is_pinned()
        assert batch["meta"]["rpm"].is_pinned()
    else:
        assert not next(iter(make_loader(tensor_samples(), batch_size=4)))["inputs"].is_pinned()
