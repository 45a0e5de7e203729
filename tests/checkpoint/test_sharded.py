"""Tests of sharded tensors in checkpoints, with one process."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from attrs import evolve
from torch.distributed import tensor as dtensor

from dovetail.checkpoint.format import encode, read_checkpoint, read_model, write_checkpoint
from dovetail.checkpoint.manifest import MANIFEST, CheckpointError, read_manifest
from dovetail.checkpoint.saver import HostBuffers
from dovetail.checkpoint.sharded import ShardedSpec, allocate_full, is_sharded, local_shard, write_shards
from dovetail.checkpoint.verify import find_problems, verify
from dovetail.storage.errors import StorageError
from small_disks import small_disk
from states import equal

save = partial(write_checkpoint, write_shards=partial(write_shards, rank=0))

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


def test_sharded_tensors_are_read_in_full_or_as_shards(tmp_path, mesh):
    """For all shapes and dtypes, bit for bit."""
    full = {
        f"{dtype}.{index}": torch.arange(24).to(dtype)[: math.prod(shape)].view(shape)
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8)
        for index, shape in enumerate([(4, 6), (1,), (2, 3, 4), (0, 3), (5,)])
    }
    model = {name: dtensor.distribute_tensor(value, mesh) for name, value in full.items()}
    columns = dtensor.distribute_tensor(torch.ones(3, 2), mesh, [dtensor.Shard(1)])
    state = {"model": model, "optimizer": {"state": {0: {"exp_avg": columns, "step": torch.tensor(3.0)}}}, "step": 7}

    def allocate(spec: ShardedSpec) -> torch.Tensor:
        placements = [dtensor.Shard(spec.dim or 0)]
        return dtensor.zeros(spec.shape, dtype=spec.dtype, device_mesh=mesh, placements=placements)

    save(tmp_path / "c", state)
    verify(tmp_path / "c")
    read, sharded = read_checkpoint(tmp_path / "c"), read_checkpoint(tmp_path / "c", allocate)

    assert equal(read["model"], full)
    assert equal(read_model(tmp_path / "c"), full)
    assert equal({name: value.full_tensor() for name, value in sharded["model"].items()}, full)
    assert torch.equal(read["optimizer"]["state"][0]["exp_avg"], torch.ones(3, 2))
    assert sharded["optimizer"]["state"][0]["exp_avg"].placements == (dtensor.Shard(1),)
    assert read["step"] == sharded["step"] == 7


def test_host_buffers_copy_shards(tmp_path, mesh):
    """The copy keeps its values while training continues, and its memory is reused."""
    weight = dtensor.distribute_tensor(torch.randn(6, 5), mesh, [dtensor.Shard(1)])
    before, buffers = weight.full_tensor().clone(), HostBuffers()

    first = buffers.copy(encode({"model": {"weight": weight, "bias": weight[0]}}))
    weight.mul_(2)
    save(tmp_path / "c", first)
    second = buffers.copy(encode({"model": {"weight": weight}}))

    assert equal(read_model(tmp_path / "c"), {"weight": before, "bias": before[0]})
    first_copy, second_copy = (encoded.sharded["model"]["weight"] for encoded in (first, second))
    assert local_shard(first_copy).data_ptr() == local_shard(second_copy).data_ptr()
    assert torch.equal(second_copy.full_tensor(), 2 * before)


def test_any_damage_to_shards_is_found(tmp_path, mesh):
    """The error names the file, and nothing is read."""
    save(tmp_path / "c", {"model": {"weight": dtensor.distribute_tensor(torch.randn(6, 5), mesh)}})
    (path,) = (tmp_path / "c" / "model.shards").iterdir()
    intact = path.read_bytes()

    for offset in range(0, len(intact), 7):
        path.write_bytes(intact[:offset] + bytes([intact[offset] ^ 1]) + intact[offset + 1 :])
        (problem,) = find_problems(tmp_path / "c")

        assert problem.path == path
        with pytest.raises(CheckpointError, match="damaged"):
            read_checkpoint(tmp_path / "c")
    path.write_bytes(intact[:-1])
    with pytest.raises(CheckpointError, match="bytes, but the manifest says"):
        read_checkpoint(tmp_path / "c")


def test_a_tensor_larger_than_its_files_allocates_no_memory(tmp_path, mesh):
    """A forged shape is refused."""
    encoded = encode({"model": {"weight": dtensor.distribute_tensor(torch.randn(6, 5), mesh)}})
    encoded.tree["model"]["weight"]["$tensor"]["shape"] = [1 << 20, 1 << 20]

    save(tmp_path / "c", encoded)

    with pytest.raises(CheckpointError, match="too small for 'weight'"):
        read_checkpoint(tmp_path / "c")


def test_a_manifest_with_a_file_outside_the_checkpoint_is_refused(tmp_path, mesh):
    """Even if the file exists."""
    save(tmp_path / "c", {"model": {"weight": dtensor.distribute_tensor(torch.ones(2), mesh)}})
    manifest = read_manifest(tmp_path / "c")
    (tmp_path / "secret.safetensors").write_bytes(b"1234")
    forged = evolve(manifest, files={**manifest.files, "../secret.safetensors": (4, "0" * 64)})
    (tmp_path / "c" / MANIFEST).write_bytes(forged.to_bytes())

    with pytest.raises(CheckpointError, match="the manifest is damaged"):
        read_checkpoint(tmp_path / "c")


def test_shards_that_do_not_fit_on_the_disk_are_a_storage_error(tmp_path, mesh):
    """Torch's own error derives from BaseException, and would end a run without an outcome."""
    weight = dtensor.distribute_tensor(torch.ones(100_000), mesh)

    with small_disk(tmp_path, "100k") as disk, pytest.raises(StorageError, match="there is no space left on the disk"):
        write_shards(disk, {"model": {"weight": weight}}, rank=0)


def test_shards_that_cannot_be_encoded_are_a_storage_error(tmp_path, mesh):
    """The message has the reason."""
    weight = dtensor.distribute_tensor(torch.ones(2, dtype=torch.complex128), mesh)

    with pytest.raises(StorageError, match=r"model\.shards: cannot write this: .*complex"):
        write_shards(tmp_path, {"model": {"weight": weight}}, rank=0)
