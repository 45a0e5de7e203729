"""Tensors of which each process has a share: kept by torch's distributed checkpoint, as safetensors files.

Every process writes its shares into a file of its own, in ``model.shards/`` or ``state.shards/``; where a share belongs
in its tensor is in that file's header. ``state.json`` has each tensor's whole shape, and the digests of the files'
pieces as of the others. So any number of processes can read them, each what it needs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from attrs import frozen

from dovetail.checkpoint.dtypes import DTYPES
from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.header import parse
from dovetail.checkpoint.manifest import MALFORMED, SHARE_FOLDERS
from dovetail.checkpoint.pieces import Piece, cut, sha256
from dovetail.storage.atomic import sync_file, sync_folder

#: By the part of the state, the tensors that are shared out.
Shared = Mapping[str, Mapping[str, torch.Tensor]]


def is_sharded(tensor: torch.Tensor) -> bool:
    """Say whether this process has only a share of a tensor: whether it is a ``DTensor``."""
    return hasattr(tensor, "device_mesh")


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's share of a tensor, in the same memory; of one that is not shared out, itself."""
    own: torch.Tensor = getattr(tensor, "_local_tensor", tensor)
    return own


def with_local(tensor: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return a ``DTensor`` like ``tensor``, of which this process has ``own``, wherever that is."""
    from torch.distributed.tensor import DTensor

    made: Any = DTensor  # from_local() would bring it to the device of the processes
    shared: torch.Tensor = made(own, tensor._spec, requires_grad=False)  # type: ignore[attr-defined]  # noqa: SLF001 (a DTensor's; it has no public name)
    return shared


@frozen
class Share:
    """A tensor that is shared out, as ``state.json`` tells of it."""

    #: The part of the state: ``"model"`` or ``"state"``.
    file: str
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    #: Along which dimension it was shared out; None where each process had all of it.
    dim: int | None

    @classmethod
    def of(cls, tensor: torch.Tensor, file: str, key: str) -> Self:
        """Describe a ``DTensor``."""
        (placement,) = tensor.placements  # type: ignore[attr-defined]  # a DTensor's
        return cls(file, key, tuple(tensor.shape), tensor.dtype, getattr(placement, "dim", None))

    def reference(self) -> dict[str, Any]:
        """Return how the state refers to it."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"file": self.file, "share": self.key, "shape": list(self.shape), "dtype": dtype, "dim": self.dim}

    @classmethod
    def referred(cls, reference: Mapping[str, Any]) -> Self:
        """Read a reference.

        Raises:
            KeyError, TypeError, ValueError: it is malformed.
        """
        shape, dim = tuple(map(int, reference["shape"])), reference["dim"]
        if reference["file"] not in SHARE_FOLDERS or min(shape, default=0) < 0:
            raise ValueError(f"a share of '{reference['share']}' that cannot be")
        if dim is not None and not 0 <= dim < len(shape):
            raise ValueError(f"'{reference['share']}' has no dimension {dim}")
        return cls(reference["file"], str(reference["share"]), shape, DTYPES[reference["dtype"]], dim)

    def nbytes(self) -> int:
        """Return how many bytes the whole tensor takes."""
        return math.prod(self.shape) * self.dtype.itemsize


#: Gives the memory to read a tensor into: the whole of it, or this process's share.
Place = Callable[[Share], torch.Tensor]
#: Writes shares into a folder, with the other processes, and returns the pieces of all files, by their names in it.
ShareWriter = Callable[[Path, Shared], Mapping[str, list[Piece]]]


def whole(share: Share) -> torch.Tensor:
    """Return memory for a whole tensor."""
    return torch.empty(share.shape, dtype=share.dtype)


def write_shares(directory: Path, shared: Shared, rank: int, channel: Any = None) -> dict[str, list[Piece]]:
    """Write what this process has of tensors, and return the pieces of its files; all processes call it together.

    Args:
        directory: the folder of the checkpoint, the same for all.
        shared: the tensors.
        rank: which process this is.
        channel: torch's process group to settle by who writes what; that of training unless given.

    Raises:
        OSError, CheckpointException: what the operating system, or torch, says; torch tells it to all processes.
    """
    from torch.distributed import checkpoint

    dcp: Any = checkpoint  # whose types do not know what it exports
    pieces = {}
    for file, tensors in shared.items():
        if not tensors:
            continue
        folder = directory / SHARE_FOLDERS[file]
        writer = dcp.HuggingFaceStorageWriter(path=str(folder), save_distributed=True)
        dcp.save(dict(tensors), storage_writer=writer, process_group=channel)
        for path in sorted(folder.glob(f"shard-{rank + 1:05d}-*.safetensors")):
            sync_file(path)
            pieces[f"{folder.name}/{path.name}"] = _pieces(path)
        sync_folder(folder)
    return pieces


def _pieces(path: Path) -> list[Piece]:
    """Return the pieces of a file that this process has written just now."""
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(int.from_bytes(head, "little"))
        pieces = [Piece(len(head), sha256(head))]
        for entry in parse(head, length):
            pieces += [
                Piece(entry.start + part.stop, sha256(file.read(part.stop - part.start)))
                for part in cut(entry.end - entry.start)
            ]
    return pieces


def read_shares(directory: Path, wanted: Mapping[Share, torch.Tensor], *, alone: bool) -> None:
    """Fill tensors from a checkpoint whose files have been verified.

    Args:
        directory: the checkpoint.
        wanted: the tensors to fill.
        alone: this process reads by itself, or else all together.

    Raises:
        CheckpointError: the files do not hold these tensors.
    """
    from torch.distributed import checkpoint

    dcp: Any = checkpoint  # whose types do not know what it exports
    for file, name in SHARE_FOLDERS.items():
        tensors = {share.key: tensor for share, tensor in wanted.items() if share.file == file}
        if not tensors:
            continue
        folder = directory / name
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # which is what is meant
                reader = dcp.HuggingFaceStorageReader(path=str(folder))
                dcp.load(tensors, storage_reader=reader, no_dist=alone)
        except (*MALFORMED, OSError, AssertionError, dcp.CheckpointException) as error:
            why = " ".join(str(error).split())[:300]
            raise CheckpointError(folder, f"the shares cannot be read: {why}") from error
