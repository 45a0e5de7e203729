"""Files of tensors: written while they are hashed, and read into the tensors' own memory while they are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import torch

from dovetail.checkpoint.header import Entry, lay_out
from dovetail.checkpoint.pieces import Piece, cut, sha256
from dovetail.checkpoint.verify import read_pieces
from dovetail.storage.atomic import write_all

#: The dtypes that have a name in the format.
NAMES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.uint16: "U16",
    torch.uint32: "U32", torch.uint64: "U64", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
_DTYPES: Final = {name: dtype for dtype, name in NAMES.items()}
#: Bytes up to which handing a piece to another thread takes longer than hashing it.
_SMALL: Final = 1 << 15


def memory_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a tensor that lies row by row in main memory, without copying them."""
    # A dimension of one may have any stride.
    flat = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
    return flat.numpy().data if tensor.numel() else memoryview(b"")


def write_tensors(file: BinaryIO, tensors: Mapping[str, torch.Tensor], pool: Executor) -> Callable[[], list[Piece]]:
    """Write a safetensors file; whoever opened it flushes it to the disk.

    Args:
        file: unbuffered, empty.
        tensors: row by row, on any device, of dtypes in :data:`NAMES`. Their memory must not change meanwhile.
        pool: where to hash.

    Returns:
        What waits for the digests of the pieces and returns them. Until then the tensors' memory must not change.

    Raises:
        OSError: what the operating system says.
    """
    head, entries = lay_out((key, NAMES[tensor.dtype], tensor.shape) for key, tensor in tensors.items())
    digests: list[tuple[int, Callable[[], str]]] = [(len(head), partial(sha256, head))]
    write_all(file, head)
    for entry in entries:
        content = memory_of(tensors[entry.name].cpu())
        for part in cut(len(content)):
            piece = content[part]
            hashing = partial(sha256, piece) if len(piece) <= _SMALL else pool.submit(sha256, piece).result
            digests.append((entry.start + part.stop, hashing))
            write_all(file, piece)
    return lambda: [Piece(end, digest()) for end, digest in digests]


def read_tensors(path: Path, pieces: list[Piece], pool: Executor) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, every byte of which is checked, each in memory of its own.

    Raises:
        CheckpointError: it is damaged, or is no safetensors file.
    """
    tensors: dict[str, torch.Tensor] = {}

    def memory(entry: Entry) -> memoryview:
        tensors[entry.name] = torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
        return memory_of(tensors[entry.name])

    for problem in read_pieces(path, pieces, pool, memory)[:1]:
        raise problem
    return tensors
