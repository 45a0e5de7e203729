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
