"""Digests of a file's pieces, so that all cores hash one file at once, and damage is traced to a tensor.

A file of tensors is cut at every tensor, and larger tensors are cut again. ``state.json`` has the end and the SHA-256
of every piece, the manifest that of the row of their digests: a change of any bit is found as with one digest over all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from attrs import frozen

#: Bytes of the largest piece: long enough that hashing dominates, short enough that no core idles at the end.
LARGEST: Final = 1 << 24
_MOST_THREADS: Final = 8
_NICE: Final = 10
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@frozen
class Piece:
    """A part of a file, from the end of the one before it."""

    #: In bytes from the file's start.
    end: int
    sha256: str


def hashers() -> ThreadPoolExecutor:
    """Return threads to hash in: hashlib lets others run meanwhile, so that they use all cores of this process.

    They give way to whoever writes what they hash, and to training: the disk is to be busy all the time.
    """
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    return ThreadPoolExecutor(threads, "dovetail-hash", initializer=_give_way)


def readers() -> ThreadPoolExecutor:
    """Return threads to read and hash in: more than there are cores, since some wait for the disk."""
    return ThreadPoolExecutor(min(2 * _MOST_THREADS, 2 + len(os.sched_getaffinity(0))), "dovetail-read")


def _give_way() -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def root(pieces: Sequence[Piece]) -> str:
    """Return what a manifest says of a file with these pieces."""
    return sha256(b"".join(bytes.fromhex(one.sha256) for one in pieces))


def cut(length: int) -> Iterator[slice]:
    """Yield the slices of a tensor of so many bytes that become pieces."""
    return (slice(start, min(start + LARGEST, length)) for start in range(0, length, LARGEST))


def to_json(pieces: Iterable[Piece]) -> list[list[Any]]:
    """Return pieces as ``state.json`` has them."""
    return [[one.end, one.sha256] for one in pieces]


def from_json(value: Any, length: int) -> list[Piece]:
    """Return the pieces of a file of ``length`` bytes.

    Raises:
        ValueError, TypeError, KeyError: they are malformed, or do not make up the file.
    """
    pieces = [Piece(int(end), str(digest)) for end, digest in value]
    ends = [one.end for one in pieces]
    if ends != sorted(set(ends)) or min(ends, default=1) < 1 or (ends[-1] if ends else 0) != length:
        raise ValueError("pieces that do not make up the file")
    if not all(_DIGEST.fullmatch(one.sha256) for one in pieces):
        raise ValueError("a digest that is none")
    return pieces
