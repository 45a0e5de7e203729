"""Randomness by address: permutations, keys of content, and seeds of the global generators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dovetail.data.seeding import content_keys, mix_array, permutation, preserve_rngs, seed_global_rngs, text_keys
from sample_datasets import draw, global_state


@given(st.integers(0, 200), st.integers(0, 2**63), st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=3))
def test_a_permutation_has_every_index_once(length, seed, parts):
    """And is the same for the same address."""
    order = permutation(length, seed, *parts)

    assert sorted(order.tolist()) == list(range(length))
    assert order.tolist() == permutation(length, seed, *parts).tolist()


def test_a_permutation_depends_on_every_part_of_its_address():
    """Length, seed, and the number, order and type of the parts."""
    addresses = [(50, 1, "a"), (50, 2, "a"), (50, 1, "b"), (50, 1, "a", 0), (50, 1, "a", "0"), (50, 1, 0, "a"), (50, 1)]

    assert len({tuple(permutation(*address).tolist()) for address in addresses}) == len(addresses)


def test_hashes_are_pinned():
    """The same on every machine and in every version, so that splits and orders never change."""
    assert mix_array(7, np.arange(2)).tolist() == [7191089600892374487, 13647215125184110592]
    assert text_keys([b"", b"a"]).tolist() == [13020603013274838756, 3405396810240292928]


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=st.floats(width=32)))
def test_keys_follow_the_content_of_rows(rows):
    """Whatever their order; rows with other bits have other keys."""
    keys = content_keys(rows)

    assert content_keys(rows[::-1]).tolist() == keys[::-1].tolist()
    assert len(set(keys.tolist())) == len({row.tobytes() for row in rows})


def test_keys_cover_every_array():
    """Rows that differ only in the second array have different keys."""
    keys = content_keys(np.zeros((2, 3), dtype=np.float32), np.arange(2))

    assert keys[0] != keys[1]


def test_seeding_sets_all_three_global_generators():
    """To a state that depends on the address only."""
    with preserve_rngs():
        drawn = []
        for epoch in (1, 1, 2):
            seed_global_rngs(3, "sample", epoch)
            drawn.append(draw())

    assert torch.equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).all()


def test_global_generators_are_restored_after_an_error():
    """An exception leaves them as a normal exit does."""
    before = global_state()

    def fail():
        with preserve_rngs():
            draw()
            raise StopIteration

    with pytest.raises(StopIteration):
        fail()

    assert global_state() == before
