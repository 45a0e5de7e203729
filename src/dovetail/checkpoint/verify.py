"""Check every byte of a checkpoint, without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from dovetail.checkpoint.layout import (
    MAX_HEADER,
    MAX_PIECE,
    Piece,
    TensorEntry,
    combined_digest,
    parse_header,
    pieces_from_json,
    read_pool,
    sha256,
)
from dovetail.checkpoint.manifest import (
    FILES,
    MALFORMED,
    TENSOR_FILES,
    TREE,
    CheckpointError,
    Manifest,
    read_at_most,
    read_manifest,
)

_MAX_TREE: Final = 1 << 29
#: Bytes to read before hashing them, few enough to be still in the processor's cache.
_BLOCK: Final = 1 << 18
#: Returns the memory to read a tensor's bytes into.
Memory = Callable[[TensorEntry], memoryview]
#: Called with the number of bytes checked since the last call.
Progress = Callable[[int], object]


def verify(directory: Path, names: Sequence[str] | None = None) -> Manifest:
    """Return the manifest of a checkpoint after checking every byte of its files.

    Args:
        directory: the checkpoint.
        names: the files to check; by default all.

    Raises:
        CheckpointError: a file is missing, truncated or altered; the message and ``path`` name it.
    """
    manifest = read_manifest(directory)
    for problem in find_problems(directory, names):
        raise problem
    return manifest


def find_problems(
    directory: Path, names: Sequence[str] | None = None, progress: Progress = lambda _: None
) -> Iterator[CheckpointError]:
    """Yield every problem of a checkpoint, in the order of its files and tensors.

    Args:
        directory: the checkpoint.
        names: the files to check; by default all.
        progress: called with the number of bytes checked since the last call.
    """
    try:
        manifest = read_manifest(directory)
        tree = read_tree(directory, manifest)
    except CheckpointError as error:
        yield error
        return
    progress(manifest.files[TREE][0])
    with read_pool() as pool:
        for name in names or (*FILES, *sorted(manifest.files.keys() - set(FILES))):
            if name != TREE:
                try:
                    pieces = pieces_of(directory, manifest, tree, name)
                except CheckpointError as error:
                    yield error
                else:
                    yield from read_pieces(directory / name, pieces, pool, progress=progress)


def read_tree(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """Return the content of ``state.json``, verified before it is parsed.

    Raises:
        CheckpointError: the file is damaged or malformed.
    """
    path = directory / TREE
    try:
        raw = read_at_most(path, _MAX_TREE)
        if sha256(raw) != manifest.files[TREE][1]:
            raise CheckpointError(path, "this file is damaged: its content does not match the manifest")
        tree = json.loads(raw)
        if set(tree) != {"tree", "strides", "pieces"} or not all(
            isinstance(table, dict) for table in (tree["pieces"], tree["strides"], *tree["strides"].values())
        ):
            raise ValueError("unexpected keys")
    except (*MALFORMED, OSError, RecursionError) as error:
        raise CheckpointError(path, f"this is not the state of a checkpoint ({type(error).__name__})") from error
    return dict(tree)


def pieces_of(directory: Path, manifest: Manifest, tree: Mapping[str, Any], name: str) -> list[Piece]:
    """Return the pieces of a file of tensors.

    Raises:
        CheckpointError: the pieces are malformed, or do not match the manifest.
    """
    length, digest = manifest.files[name]
    key = next((part for part, file in TENSOR_FILES.items() if file == name), name)
    try:
        pieces = pieces_from_json(tree["pieces"][key], length)
    except MALFORMED as error:
        raise CheckpointError(directory / TREE, f"the pieces of {name} cannot be read: {error}") from error
    if combined_digest(pieces) != digest:
        raise CheckpointError(directory / TREE, f"the pieces of {name} do not match the manifest")
    return pieces


# --- one file of tensors ----------------------------------------------------------------------------------------------


@define
class _Job:
    """Adjacent pieces that one thread reads and checks."""

    #: Start of each piece, the piece, the name of its tensor, and the memory to read into.
    pieces: list[tuple[int, Piece, str, memoryview | None]] = field(factory=list)
    length: int = 0


def read_pieces(
    path: Path,
    pieces: Sequence[Piece],
    pool: Executor,
    memory: Memory | None = None,
    progress: Progress = lambda _: None,
) -> list[CheckpointError]:
    """Read a file of tensors and return its problems, at most one per tensor.

    The header is checked against its digest, then parsed without trust: a hostile header is refused before any memory
    is allocated.

    Args:
        path: the file.
        pieces: the pieces of the whole file.
        pool: threads to read and hash in.
        memory: returns the memory for a tensor's bytes; by default, the bytes are only checked.
        progress: called with the number of bytes checked since the last call.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return [CheckpointError(path, f"this file cannot be read ({error.strerror})")]
    try:
        jobs = _jobs(pieces, _entries(path, descriptor, pieces), memory)
        found: dict[str | None, CheckpointError] = {}
        check = partial(_check, path, descriptor)
        # Every job ends before the file is closed.
        for job, problems in zip(jobs, pool.map(check, jobs) if len(jobs) > 1 else map(check, jobs), strict=True):
            progress(job.length)
            found |= {problem.tensor: problem for problem in problems}
    except CheckpointError as error:
        return [error]
    except MALFORMED as error:
        return [CheckpointError(path, f"the tensors cannot be read: {error}")]
    finally:
        os.close(descriptor)
    return list(found.values())


def _entries(path: Path, descriptor: int, pieces: Sequence[Piece]) -> list[TensorEntry]:
    if not pieces or pieces[0].end > MAX_HEADER:
        raise ValueError("the length of the header does not fit the file")
    header = bytearray(pieces[0].end)
    _fill(path, descriptor, memoryview(header), 0)
    if sha256(header) != pieces[0].sha256:
        raise CheckpointError(path, "this file is damaged: its header does not match its digest")
    return parse_header(bytes(header), pieces[-1].end)


def _jobs(pieces: Sequence[Piece], entries: Sequence[TensorEntry], memory: Memory | None) -> list[_Job]:
    jobs = [_Job()]
    index = 1
    for entry in entries:
        content, start = None if memory is None else memory(entry), entry.start
        while start < entry.end:
            piece = pieces[index]
            if piece.end > entry.end or piece.end - start > MAX_PIECE:
                raise ValueError(f"the pieces of '{entry.name}' do not fit it")
            if jobs[-1].length >= MAX_PIECE:
                jobs.append(_Job())
            target = None if content is None else content[start - entry.start : piece.end - entry.start]
            jobs[-1].pieces.append((start, piece, entry.name, target))
            jobs[-1].length += piece.end - start
            start, index = piece.end, index + 1
    return jobs


def _check(path: Path, descriptor: int, job: _Job) -> list[CheckpointError]:
    """Read and check the pieces of a job; return at most one problem per tensor."""
    found: dict[str, CheckpointError] = {}
    buffer = memoryview(bytearray(_BLOCK))
    for start, piece, name, target in job.pieces:
        digest = hashlib.sha256()
        try:
            for offset in range(start, piece.end, _BLOCK):
                end = min(offset + _BLOCK, piece.end)
                content = buffer[: end - offset] if target is None else target[offset - start : end - start]
                _fill(path, descriptor, content, offset)
                digest.update(content)
        except CheckpointError as error:
            found[name] = error
            continue
        if digest.hexdigest() != piece.sha256:
            message = f"this file is damaged: tensor '{name}' does not match its digest"
            found[name] = CheckpointError(path, message, name)
    return list(found.values())


def _fill(path: Path, descriptor: int, content: memoryview, offset: int) -> None:
    """Read from ``offset`` of the file until ``content`` is full."""
    try:
        while content:
            length = os.preadv(descriptor, [content], offset)
            if not length:
                raise CheckpointError(path, "this file ends before its last tensor")
            content, offset = content[length:], offset + length
    except OSError as error:
        raise CheckpointError(path, f"this file cannot be read ({error.strerror})") from error
