"""Checking every byte of a checkpoint. No torch is imported for it."""

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

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.header import LARGEST_HEAD, Entry, parse
from dovetail.checkpoint.manifest import FILES, MALFORMED, TENSOR_FILES, TREE, Manifest, read_bytes, read_manifest
from dovetail.checkpoint.pieces import LARGEST, Piece, from_json, readers, root, sha256

_LARGEST_TREE: Final = 1 << 29
#: Bytes that are read and hashed at a time: they are still in the cache when they are hashed.
_STEP: Final = 1 << 18
#: Gives the memory that a tensor's bytes are to be read into.
Memory = Callable[[Entry], memoryview]


def verify(directory: Path, names: Sequence[str] | None = None) -> Manifest:
    """Return what the checkpoint says about itself, having checked every byte of its files.

    Args:
        directory: the checkpoint.
        names: the files to check; all unless given.

    Raises:
        CheckpointError: a file is missing, cut short or altered; the message and ``path`` name it.
    """
    manifest = read_manifest(directory)
    for problem in problems(directory, names):
        raise problem
    return manifest


def problems(
    directory: Path, names: Sequence[str] | None = None, told: Callable[[int], object] = lambda _: None
) -> Iterator[CheckpointError]:
    """Yield whatever is wrong with a checkpoint, in the order of its files and tensors.

    Args:
        directory: the checkpoint.
        names: the files to check; all unless given.
        told: called with the number of bytes that have been checked since the last time.
    """
    try:
        manifest = read_manifest(directory)
        tree = read_tree(directory, manifest)
    except CheckpointError as error:
        yield error
        return
    told(manifest.files[TREE][0])
    with readers() as pool:
        for name in names or (*FILES, *sorted(manifest.files.keys() - set(FILES))):
            if name != TREE:
                try:
                    pieces = pieces_of(directory, manifest, tree, name)
                except CheckpointError as error:
                    yield error
                else:
                    yield from read_pieces(directory / name, pieces, pool, told=told)


def read_tree(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """Return the content of ``state.json``, verified before it is parsed.

    Raises:
        CheckpointError: it is damaged or malformed.
    """
    path = directory / TREE
    try:
        raw = read_bytes(path, _LARGEST_TREE)
        if sha256(raw) != manifest.files[TREE][1]:
            raise CheckpointError(path, "this file is damaged: its content does not match the manifest")
        tree = json.loads(raw)
        if set(tree) != {"tree", "strides", "pieces"} or not all(
            isinstance(one, dict) for one in (tree["pieces"], tree["strides"], *tree["strides"].values())
        ):
            raise ValueError("other keys")
    except (*MALFORMED, OSError, RecursionError) as error:
        raise CheckpointError(path, f"this is no state of a checkpoint ({type(error).__name__})") from error
    return dict(tree)


def pieces_of(directory: Path, manifest: Manifest, tree: Mapping[str, Any], name: str) -> list[Piece]:
    """Return the pieces of a file of tensors.

    Raises:
        CheckpointError: they are malformed, or not those that the manifest tells of.
    """
    length, digest = manifest.files[name]
    file = next((one for one, named in TENSOR_FILES.items() if named == name), name)
    try:
        pieces = from_json(tree["pieces"][file], length)
    except MALFORMED as error:
        raise CheckpointError(directory / TREE, f"the pieces of {name} cannot be read: {error}") from error
    if root(pieces) != digest:
        raise CheckpointError(directory / TREE, f"the pieces of {name} are not those of the manifest")
    return pieces


# --- a file of tensors ----------------------------------------------------------------------------------------------


@define
class _Job:
    """Neighbouring pieces to be read and checked in one go."""

    pieces: list[tuple[int, Piece, str, memoryview | None]] = field(factory=list)
    length: int = 0


def read_pieces(
    path: Path,
    pieces: Sequence[Piece],
    pool: Executor,
    memory: Memory | None = None,
    told: Callable[[int], object] = lambda _: None,
) -> list[CheckpointError]:
    """Read a file of tensors and return what is wrong with it.

    The header is checked before it is parsed, and so describes the file truly or as somebody hostile made it: then it
    is refused before any memory is taken.

    Args:
        path: the file.
        pieces: of all of it.
        pool: where to read and hash.
        memory: where to put a tensor's bytes; nowhere unless given.
        told: called with the number of bytes checked.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return [CheckpointError(path, f"this file cannot be read ({error.strerror})")]
    try:
        jobs = _jobs(pieces, _entries(path, descriptor, pieces), memory)
        found: dict[str | None, CheckpointError] = {}
        check = partial(_check, path, descriptor)
        # Every job has ended before the file is closed.
        for job, problems in zip(jobs, pool.map(check, jobs) if len(jobs) > 1 else map(check, jobs), strict=True):
            told(job.length)
            found |= {problem.tensor: problem for problem in problems}
    except CheckpointError as error:
        return [error]
    except MALFORMED as error:
        return [CheckpointError(path, f"the tensors cannot be read: {error}")]
    finally:
        os.close(descriptor)
    return list(found.values())


def _entries(path: Path, descriptor: int, pieces: Sequence[Piece]) -> list[Entry]:
    if not pieces or pieces[0].end > LARGEST_HEAD:
        raise ValueError("the length of the header does not fit the file")
    head = bytearray(pieces[0].end)
    _fill(path, descriptor, memoryview(head), 0)
    if sha256(head) != pieces[0].sha256:
        raise CheckpointError(path, "this file is damaged: its header does not match its digest")
    return parse(bytes(head), pieces[-1].end)


def _jobs(pieces: Sequence[Piece], entries: Sequence[Entry], memory: Memory | None) -> list[_Job]:
    jobs = [_Job()]
    at = 1
    for entry in entries:
        content, start = None if memory is None else memory(entry), entry.start
        while start < entry.end:
            piece = pieces[at]
            if piece.end > entry.end or piece.end - start > LARGEST:
                raise ValueError(f"the pieces of '{entry.name}' do not fit it")
            if jobs[-1].length >= LARGEST:
                jobs.append(_Job())
            into = None if content is None else content[start - entry.start : piece.end - entry.start]
            jobs[-1].pieces.append((start, piece, entry.name, into))
            jobs[-1].length += piece.end - start
            start, at = piece.end, at + 1
    return jobs


def _check(path: Path, descriptor: int, job: _Job) -> list[CheckpointError]:
    """Read and check a job's pieces, and return what is wrong with them, once for each tensor."""
    found: dict[str, CheckpointError] = {}
    spare = memoryview(bytearray(_STEP))
    for start, piece, name, into in job.pieces:
        digest = hashlib.sha256()
        try:
            for place in range(start, piece.end, _STEP):
                end = min(place + _STEP, piece.end)
                content = spare[: end - place] if into is None else into[place - start : end - start]
                _fill(path, descriptor, content, place)
                digest.update(content)
        except CheckpointError as error:
            found[name] = error
            continue
        if digest.hexdigest() != piece.sha256:
            message = f"this file is damaged: tensor '{name}' does not match its digest"
            found[name] = CheckpointError(path, message, name)
    return list(found.values())


def _fill(path: Path, descriptor: int, content: memoryview, place: int) -> None:
    """Read from ``place`` of the file on until ``content`` is full."""
    try:
        while content:
            length = os.preadv(descriptor, [content], place)
            if not length:
                raise CheckpointError(path, "this file ends before its last tensor")
            content, place = content[length:], place + length
    except OSError as error:
        raise CheckpointError(path, f"this file cannot be read ({error.strerror})") from error
