"""Files of tensors: hashed while they are written, and checked while they are read into the tensors' own memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import torch

from dovetail.checkpoint.layout import Piece, TensorEntry, make_header, piece_slices, sha256
from dovetail.checkpoint.verify import read_pieces
from dovetail.storage.atomic import write_all

#: Torch's dtypes by name, such as ``float32``.
DTYPES: Final = {
    str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)
}
#: The safetensors format's names of dtypes; it has none for the others.
SAFETENSORS_NAMES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.uint16: "U16",
    torch.uint32: "U32", torch.uint64: "U64", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
_SAFETENSORS_DTYPES: Final = {name: dtype for dtype, name in SAFETENSORS_NAMES.items()}
#: Up to this many bytes, hashing a piece is faster than handing it to another thread.
_SMALL: Final = 1 << 15


def memory_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a row-major CPU tensor, without a copy."""
    # A dimension of size 1 may have any stride, so flatten by stride rather than with view().
    flat = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
    return flat.numpy().data if tensor.numel() else memoryview(b"")


def write_tensors(file: BinaryIO, tensors: Mapping[str, torch.Tensor], pool: Executor) -> Callable[[], list[Piece]]:
    """Write a safetensors file; the caller flushes it to the disk.

    Args:
        file: an empty, unbuffered file.
        tensors: row-major, on any device, with dtypes in :data:`SAFETENSORS_NAMES`.
        pool: threads to hash in.

    Returns:
        A function that waits for the digests and returns the pieces. Do not change the tensors before it returns.

    Raises:
        OSError: from the operating system.
    """
    header, entries = make_header(
        (key, SAFETENSORS_NAMES[tensor.dtype], tensor.shape) for key, tensor in tensors.items()
    )
    digests: list[tuple[int, Callable[[], str]]] = [(len(header), partial(sha256, header))]
    write_all(file, header)
    for entry in entries:
        content = memory_of(tensors[entry.name].cpu())
        for part in piece_slices(len(content)):
            piece = content[part]
            digest = partial(sha256, piece) if len(piece) <= _SMALL else pool.submit(sha256, piece).result
            digests.append((entry.start + part.stop, digest))
            write_all(file, piece)
    return lambda: [Piece(end, digest()) for end, digest in digests]


def read_tensors(path: Path, pieces: list[Piece], pool: Executor) -> dict[str, torch.Tensor]:
    """Return the tensors of a file after checking every byte; each tensor has its own memory.

    Raises:
        CheckpointError: the file is damaged, or is not a safetensors file.
    """
    tensors: dict[str, torch.Tensor] = {}

    def allocate(entry: TensorEntry) -> memoryview:
        tensors[entry.name] = torch.empty(entry.shape, dtype=_SAFETENSORS_DTYPES[entry.dtype])
        return memory_of(tensors[entry.name])

    for problem in read_pieces(path, pieces, pool, allocate)[:1]:
        raise problem
    return tensors
