"""Tests of references to sharded tensors; tests/distributed has those that need a process group."""

from __future__ import annotations

import pytest
import torch

from dovetail.checkpoint.sharded import ShardedSpec, allocate_full, is_sharded, local_shard

REFERENCE = {"file": "model", "share": "w", "shape": [4, 2], "dtype": "bfloat16", "dim": 0}


def test_a_reference_round_trips():
    """The spec knows the size of the full tensor, and how to allocate it."""
    spec = ShardedSpec.from_reference(REFERENCE)

    assert spec.to_reference() == REFERENCE
    assert spec.nbytes == 16
    full = allocate_full(spec)
    assert (full.shape, full.dtype) == ((4, 2), torch.bfloat16)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"file": "../etc"}, ValueError, "the file or shape of the sharded tensor 'w' is invalid"),
        ({"shape": [-1, 2]}, ValueError, "the file or shape of the sharded tensor 'w' is invalid"),
        ({"dim": 2}, ValueError, "the sharded tensor 'w' has no dimension 2"),
        ({"dim": -1}, ValueError, "the sharded tensor 'w' has no dimension -1"),
        ({"dtype": "object"}, KeyError, "object"),
    ],
)
def test_a_hostile_reference_is_refused(change, error, message):
    """Before any memory is allocated."""
    with pytest.raises(error, match=message):
        ShardedSpec.from_reference(REFERENCE | change)


def test_a_plain_tensor_is_its_own_shard():
    """So code for sharded weights works without sharding."""
    tensor = torch.ones(2)

    assert not is_sharded(tensor)
    assert local_shard(tensor) is tensor
