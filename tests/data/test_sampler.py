"""The order of samples in an epoch, and the batches made of it."""

from __future__ import annotations

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.sampler import AddressedSampler


@given(
    st.builds(
        AddressedSampler, st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(0, 3), st.booleans()
    ),
    st.integers(0, 3),
)
def test_an_epoch_has_every_sample_once(sampler, epoch):
    """Batches have the right size; the last may be smaller, or dropped."""
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
def test_an_epoch_can_start_at_any_batch(length, batch_size, epoch, data):
    """Starting at a later batch yields the same batches."""
    sampler = AddressedSampler(length, batch_size, shuffle=True, seed=7)
    start = data.draw(st.integers(0, len(sampler)))

    whole = [indices.tolist() for _, indices in sampler.batches(epoch)]

    assert [indices.tolist() for _, indices in sampler.batches(epoch, start)] == whole[start:]


def test_the_order_depends_on_seed_and_epoch_only():
    """Batch size and earlier epochs do not matter; the order is pinned, so that no version changes it."""
    addresses = [(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    orders = {(seed, epoch): AddressedSampler(8, 3, True, seed).order(epoch).tolist() for seed, epoch in addresses}

    assert AddressedSampler(8, 5, True, 1).order(1).tolist() == orders[1, 1]
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[0, 0] == [5, 0, 3, 2, 7, 1, 4, 6]


def test_the_order_is_close_to_uniform():
    """Every sample is first about equally often."""
    firsts = [int(AddressedSampler(6, 1, True, seed).order(0)[0]) for seed in range(3000)]

    counts = np.bincount(firsts, minlength=6)

    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi-squared with 5 degrees of freedom: one in a thousand


@given(
    length=st.integers(1, 60),
    size=st.integers(1, 7),
    ranks=st.integers(1, 5),
    drop=st.booleans(),
    epoch=st.integers(1, 3),
)
def test_ranks_split_the_batches_of_a_single_process(length, size, ranks, drop, epoch):
    """All ranks have equally many batches, none is empty, and their sizes differ by at most one."""
    samplers = [AddressedSampler(length, size, True, 7, drop, rank, ranks) for rank in range(ranks)]
    single = AddressedSampler(length, size * ranks, True, 7, drop)

    batches = [[indices.tolist() for _, indices in sampler.batches(epoch)] for sampler in samplers]
    whole = [indices.tolist() for _, indices in single.batches(epoch)]

    assert {len(own) for own in batches} == {len(samplers[0])}
    assert len(whole) - len(samplers[0]) == (bool(whole) and len(whole[-1]) < ranks)
    for together, parts in zip(whole, zip(*batches, strict=True), strict=False):
        assert together == [index for part in parts for index in part]
        assert all(parts)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(length=st.integers(1, 60), size=st.integers(1, 7), ranks=st.integers(1, 5), drop=st.booleans())
def test_ranks_take_turns_with_whole_batches(length, size, ranks, drop):
    """Together they read each batch of a single process once."""
    options = {"drop_last": drop, "whole_batches": True, "world_size": ranks}
    samplers = [AddressedSampler(length, size, rank=rank, **options) for rank in range(ranks)]
    single = AddressedSampler(length, size, drop_last=drop)

    batches = [indices.tolist() for sampler in samplers for _, indices in sampler.batches(1)]

    assert sorted(batches) == [indices.tolist() for _, indices in single.batches(1)]
    assert sum(map(len, samplers)) == len(batches)
    assert {sampler.num_samples for sampler in samplers} == {single.num_samples}
