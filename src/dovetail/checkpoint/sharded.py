"""Sharded tensors (``DTensor``): written by torch's distributed checkpoint as safetensors files.

Each process writes its shards to a file of its own, in ``model.shards/`` or ``state.shards/``; the file's header says
where each shard belongs in its tensor. ``state.json`` stores each tensor's full shape, and the digests of these files'
pieces like those of other files. So any number of processes can read the tensors, each only its shards.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from attrs import frozen

from dovetail.checkpoint.layout import Piece, parse_header, piece_slices, sha256
from dovetail.checkpoint.manifest import MALFORMED, SHARD_FOLDERS, CheckpointError
from dovetail.checkpoint.tensor_file import DTYPES
from dovetail.storage.atomic import sync_file, sync_folder
from dovetail.storage.errors import StorageError, storage_error

#: Sharded tensors by part of the state (``"model"`` or ``"state"``) and key.
ShardedTensors = Mapping[str, Mapping[str, torch.Tensor]]


def is_sharded(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a ``DTensor``, so that this process may hold only a shard of it."""
    return hasattr(tensor, "device_mesh")


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's shard of a ``DTensor``, in the same memory; return any other tensor itself."""
    shard: torch.Tensor = getattr(tensor, "_local_tensor", tensor)
    return shard


def with_local_shard(tensor: torch.Tensor, shard: torch.Tensor) -> torch.Tensor:
    """Return a ``DTensor`` like ``tensor`` whose local shard is ``shard``, which may be on another device."""
    from torch.distributed.tensor import DTensor

    constructor: Any = DTensor  # from_local() would move the shard to the mesh's device
    sharded: torch.Tensor = constructor(shard, tensor._spec, requires_grad=False)  # type: ignore[attr-defined]  # noqa: SLF001 (a DTensor's; it has no public name)
    return sharded


@frozen
class ShardedSpec:
    """What ``state.json`` stores about a sharded tensor."""

    #: The part of the state: ``"model"`` or ``"state"``.
    file: str
    key: str
    #: The full shape.
    shape: tuple[int, ...]
    dtype: torch.dtype
    #: The sharded dimension; None if each process held the whole tensor.
    dim: int | None

    @classmethod
    def of(cls, tensor: torch.Tensor, file: str, key: str) -> Self:
        """Return the spec of a ``DTensor``."""
        (placement,) = tensor.placements  # type: ignore[attr-defined]  # a DTensor's
        return cls(file, key, tuple(tensor.shape), tensor.dtype, getattr(placement, "dim", None))

    def to_reference(self) -> dict[str, Any]:
        """Return the reference to this tensor in the state."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"file": self.file, "share": self.key, "shape": list(self.shape), "dtype": dtype, "dim": self.dim}

    @classmethod
    def from_reference(cls, reference: Mapping[str, Any]) -> Self:
        """Return the spec in a reference.

        Raises:
            KeyError, TypeError, ValueError: the reference is malformed.
        """
        shape, dim = tuple(map(int, reference["shape"])), reference["dim"]
        if reference["file"] not in SHARD_FOLDERS or min(shape, default=0) < 0:
            raise ValueError(f"the file or shape of the sharded tensor '{reference['share']}' is invalid")
        if dim is not None and not 0 <= dim < len(shape):
            raise ValueError(f"the sharded tensor '{reference['share']}' has no dimension {dim}")
        return cls(reference["file"], str(reference["share"]), shape, DTYPES[reference["dtype"]], dim)

    @property
    def nbytes(self) -> int:
        """Bytes of the full tensor."""
        return math.prod(self.shape) * self.dtype.itemsize


#: Returns the memory to read a tensor into: a full tensor, or a ``DTensor`` whose local shard is read.
Allocate = Callable[[ShardedSpec], torch.Tensor]
#: Writes shards into a checkpoint's folder, together with the other processes, and returns the pieces of all files.
WriteShards = Callable[[Path, ShardedTensors], Mapping[str, list[Piece]]]


def allocate_full(spec: ShardedSpec) -> torch.Tensor:
    """Return memory for a full tensor."""
    return torch.empty(spec.shape, dtype=spec.dtype)


def write_shards(directory: Path, sharded: ShardedTensors, rank: int, channel: Any = None) -> dict[str, list[Piece]]:
    """Write this process's shards, and return the pieces of its files, by name; every rank must make this call.

    Args:
        directory: the folder of the checkpoint, the same on every rank.
        sharded: the tensors.
        rank: the rank of this process.
        channel: the process group that plans who writes what; by default, training's.

    Raises:
        StorageError: a rank cannot write its shards.
    """
    from torch.distributed import checkpoint

    dcp: Any = checkpoint  # its type stubs omit some exports
    pieces = {}
    for part, tensors in sharded.items():
        if not tensors:
            continue
        folder = directory / SHARD_FOLDERS[part]
        writer = dcp.HuggingFaceStorageWriter(path=str(folder), save_distributed=True)
        try:
            dcp.save(dict(tensors), storage_writer=writer, process_group=channel)
        except dcp.CheckpointException as error:  # it is no Exception, so the caller's handlers would miss it
            failure, _ = next(iter(error.failures.values()))
            if isinstance(failure, OSError):
                raise storage_error(folder, failure, "write") from error
            raise StorageError(folder, f"cannot write this: {' '.join(str(failure).split())}") from error
        for path in sorted(folder.glob(f"shard-{rank + 1:05d}-*.safetensors")):
            sync_file(path)
            pieces[f"{folder.name}/{path.name}"] = _hash_pieces(path)
        sync_folder(folder)
    return pieces


def _hash_pieces(path: Path) -> list[Piece]:
    """Return the pieces of a file that torch has just written."""
    length = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(8)
        header += file.read(int.from_bytes(header, "little"))
        pieces = [Piece(len(header), sha256(header))]
        for entry in parse_header(header, length):
            pieces += [
                Piece(entry.start + part.stop, sha256(file.read(part.stop - part.start)))
                for part in piece_slices(entry.end - entry.start)
            ]
    return pieces


def read_shards(directory: Path, tensors: Mapping[ShardedSpec, torch.Tensor], *, alone: bool) -> None:
    """Fill tensors from a checkpoint whose files have been verified.

    Args:
        directory: the checkpoint.
        tensors: the tensors to fill.
        alone: whether this process reads by itself; otherwise, every rank must make this call.

    Raises:
        CheckpointError: the files do not hold these tensors.
    """
    from torch.distributed import checkpoint

    dcp: Any = checkpoint  # its type stubs omit some exports
    for part, name in SHARD_FOLDERS.items():
        by_key = {spec.key: tensor for spec, tensor in tensors.items() if spec.file == part}
        if not by_key:
            continue
        folder = directory / name
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # expected when alone
                reader = dcp.HuggingFaceStorageReader(path=str(folder))
                dcp.load(by_key, storage_reader=reader, no_dist=alone)
        except (*MALFORMED, OSError, AssertionError, dcp.CheckpointException) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(folder, f"the shards cannot be read: {reason}") from error
