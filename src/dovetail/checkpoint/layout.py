"""The layout of a safetensors file: its header, and the pieces that are hashed. Without torch.

A file of tensors is cut into pieces at each tensor, and large tensors are cut again, so that all cores can hash one
file, and damage is traced to a tensor. ``state.json`` stores the end and the SHA-256 of each piece; the manifest stores
the SHA-256 of the pieces' digests. Like one digest of the whole file, this detects any changed bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from attrs import frozen

#: Bytes per element, by the format's name of the dtype. A file holds tensors in this order, larger elements first, so
#: that every tensor is aligned.
ITEM_SIZES: Final = {
    "U64": 8, "I64": 8, "F64": 8, "F32": 4, "U32": 4, "I32": 4, "BF16": 2, "F16": 2, "U16": 2, "I16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_ORDER: Final = {name: index for index, name in enumerate(ITEM_SIZES)}
_PREFIX: Final = 8  # bytes of the integer that holds the length of the JSON text
_ALIGNMENT: Final = 8
#: Bytes of the longest header: the format's own limit.
MAX_HEADER: Final = 100_000_000
_MAX_DIMENSIONS: Final = 64  # torch's limit
_METADATA: Final = "__metadata__"

#: Bytes of the largest piece: large enough that hashing dominates, small enough that no core idles at the end.
MAX_PIECE: Final = 1 << 24
_MAX_THREADS: Final = 8
_NICENESS: Final = 10
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


# --- header -----------------------------------------------------------------------------------------------------------


@frozen
class TensorEntry:
    """A tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    #: Start and end of its bytes, counted from the start of the file.
    start: int
    end: int


def make_header(tensors: Iterable[tuple[str, str, Sequence[int]]]) -> tuple[bytes, list[TensorEntry]]:
    """Return the header that the safetensors library writes, and the tensors in the file's order.

    Args:
        tensors: name, dtype in the format's words, and shape of each tensor.
    """
    content: dict[str, Any] = {_METADATA: {"format": "pt"}}  # transformers refuses a file without it
    placed, start = [], 0
    for name, dtype, shape in sorted(tensors, key=lambda tensor: (_ORDER[tensor[1]], tensor[0].encode())):
        end = start + math.prod(shape) * ITEM_SIZES[dtype]
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        placed.append((name, dtype, tuple(shape), start, end))
        start = end
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    header = len(text).to_bytes(_PREFIX, "little") + text
    offset = len(header)
    return header, [
        TensorEntry(name, dtype, shape, start + offset, end + offset) for name, dtype, shape, start, end in placed
    ]


def parse_header(header: bytes, length: int) -> list[TensorEntry]:
    """Return the tensors of a file, in the file's order, without trusting its header.

    Args:
        header: the first bytes of the file.
        length: size of the file in bytes.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: the header is malformed, or does not describe exactly this many
            bytes.
    """
    if len(header) < _PREFIX or int.from_bytes(header[:_PREFIX], "little") != len(header) - _PREFIX:
        raise ValueError("the length of the header does not fit the file")
    content = json.loads(header[_PREFIX:])
    content.pop(_METADATA, None)
    entries = []
    for name, value in content.items():
        shape = tuple(value["shape"])
        start, end = (offset + len(header) for offset in value["data_offsets"])
        if not all(type(number) is int for number in (*shape, start, end)) or len(shape) > _MAX_DIMENSIONS:
            raise TypeError(f"the shape or offsets of '{name}' are invalid")
        if min(shape, default=0) < 0 or math.prod(shape) * ITEM_SIZES[value["dtype"]] != end - start:
            raise ValueError(f"the shape of '{name}' does not fit its bytes")
        entries.append(TensorEntry(name, value["dtype"], shape, start, end))
    entries.sort(key=lambda entry: (entry.start, entry.end))
    end = len(header)
    for entry in entries:
        if entry.start != end:
            raise ValueError(f"the bytes of '{entry.name}' do not follow the previous tensor")
        end = entry.end
    if end != length:
        raise ValueError("the tensors do not fill the file")
    return entries


# --- pieces -----------------------------------------------------------------------------------------------------------


@frozen
class Piece:
    """A part of a file, which begins where the previous piece ends."""

    #: In bytes from the start of the file.
    end: int
    sha256: str


def piece_slices(length: int) -> Iterator[slice]:
    """Yield the slices that cut a tensor of ``length`` bytes into pieces."""
    return (slice(start, min(start + MAX_PIECE, length)) for start in range(0, length, MAX_PIECE))


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def combined_digest(pieces: Sequence[Piece]) -> str:
    """Return the SHA-256 of the pieces' digests, which the manifest stores for a file."""
    return sha256(b"".join(bytes.fromhex(piece.sha256) for piece in pieces))


def pieces_to_json(pieces: Iterable[Piece]) -> list[list[Any]]:
    """Return pieces in the form that ``state.json`` stores."""
    return [[piece.end, piece.sha256] for piece in pieces]


def pieces_from_json(value: Any, length: int) -> list[Piece]:
    """Return the pieces of a file of ``length`` bytes.

    Raises:
        ValueError, TypeError, KeyError: they are malformed, or do not make up the file.
    """
    pieces = [Piece(int(end), str(digest)) for end, digest in value]
    ends = [piece.end for piece in pieces]
    if ends != sorted(set(ends)) or min(ends, default=1) < 1 or (ends[-1] if ends else 0) != length:
        raise ValueError("the pieces do not make up the file")
    if not all(_DIGEST.fullmatch(piece.sha256) for piece in pieces):
        raise ValueError("a digest is not a SHA-256 in hexadecimal")
    return pieces


def hash_pool() -> ThreadPoolExecutor:
    """Return threads that hash while others write; hashlib releases the GIL, so they use all cores.

    They run at a lower priority than the writer and training, so that the disk stays busy.
    """
    threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
    return ThreadPoolExecutor(threads, "dovetail-hash", initializer=_lower_priority)


def read_pool() -> ThreadPoolExecutor:
    """Return threads that read and hash: more than there are cores, because some wait for the disk."""
    return ThreadPoolExecutor(min(2 * _MAX_THREADS, 2 + len(os.sched_getaffinity(0))), "dovetail-read")


def _lower_priority() -> None:
    if sys.platform == "linux":  # where each thread has its own priority
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
