"""Write and read a checkpoint: a folder of four files without pickle, so that reading a stranger's runs no code.

========================  ==============================================================================================
``model.safetensors``     the model's tensors under their own names, for any program that reads safetensors
``state.safetensors``     all other tensors
``state.json``            everything else, with references to the tensors (:mod:`dovetail.checkpoint.tree`), and the
                          digests of the tensor files' pieces (:mod:`dovetail.checkpoint.layout`)
``model.shards/``         if the state is sharded over several processes: one file per process
``state.shards/``         (:mod:`dovetail.checkpoint.sharded`)
``manifest.json``         written last: size and SHA-256 of each file, facts such as the step, and its own digest
========================  ==============================================================================================

The folder is written under a temporary name, flushed and renamed, so that it appears complete or not at all. Every file
is verified before it is parsed. A folder without a valid manifest is not a checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, field, frozen

from dovetail.checkpoint.layout import Piece, combined_digest, hash_pool, pieces_to_json, read_pool, sha256
from dovetail.checkpoint.manifest import (
    MALFORMED,
    MANIFEST,
    MODEL,
    SHARD_FOLDERS,
    TENSOR_FILES,
    TREE,
    CheckpointError,
    Manifest,
    read_manifest,
)
from dovetail.checkpoint.references import resolve_reference, with_strides
from dovetail.checkpoint.sharded import Allocate, ShardedSpec, ShardedTensors, WriteShards, allocate_full, read_shards
from dovetail.checkpoint.tensor_file import read_tensors, write_tensors
from dovetail.checkpoint.tree import StateEncoder, decode
from dovetail.checkpoint.verify import pieces_of, read_pieces, read_tree
from dovetail.storage.atomic import make_folder, staged_folder, sync_file, write_atomic
from dovetail.storage.errors import StorageError, storage_error


@frozen
class Encoded:
    """State in the form that is written: JSON values, and tensors by file and key. The tensors may be the live ones."""

    tree: Any
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    strides: Mapping[str, Mapping[str, list[int]]]
    #: ``DTensor``s; this process writes its own shards.
    sharded: ShardedTensors = field(factory=dict)

    def nbytes(self) -> int:
        """Return how many bytes the tensors take; a sharded tensor counts in full."""
        files = (*self.tensors.values(), *self.sharded.values())
        return sum(tensor.nbytes for file in files for tensor in file.values())


def encode(state: Mapping[str, Any]) -> Encoded:
    """Return ``state`` in the form that is written, without writing it. This also tests whether it can be saved.

    Args:
        state: a tree of numbers, text, tensors, NumPy arrays, lists, tuples, sets and dicts. Tensors under ``model``
            get a file of their own.

    Raises:
        TypeError: the state holds something else; the message names its path.
    """
    encoder = StateEncoder()
    tree = encoder.encode(dict(state))
    tensors, strides = encoder.collector.store()
    return Encoded(tree, tensors, strides, encoder.collector.sharded)


# --- write ------------------------------------------------------------------------------------------------------------


def write_checkpoint(
    directory: Path,
    state: Mapping[str, Any] | Encoded,
    info: Mapping[str, Any] | None = None,
    write_shards: WriteShards | None = None,
) -> Manifest:
    """Write a checkpoint to ``directory``, which must not exist: checkpoints are never overwritten.

    On return, all of it is on the disk. If writing fails, or the process or machine dies, there is no ``directory``.

    Args:
        directory: the folder to create, with its missing parents.
        state: a tree as for :func:`encode`, or its result.
        info: facts for the manifest.
        write_shards: writes the sharded tensors.

    Raises:
        TypeError: the state or info holds something that a checkpoint cannot hold.
        StorageError: the checkpoint cannot be written; if the disk is full, the message shows the bytes needed.
    """
    encoded = state if isinstance(state, Encoded) else encode(state)
    facts = Manifest(dict(info or {}))
    facts.to_bytes()  # refuse invalid facts before writing anything
    try:
        make_folder(directory.parent)
        with staged_folder(directory) as staging, hash_pool() as pool:
            manifest = evolve(facts, files=_write_files(staging, encoded, write_shards, pool))
            write_atomic(staging / MANIFEST, manifest.to_bytes())
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(directory, error, "write", needed=encoded.nbytes()) from error
    return manifest


def _write_files(
    staging: Path, encoded: Encoded, write_shards: WriteShards | None, pool: Executor
) -> dict[str, tuple[int, str]]:
    """Write all files except the manifest, and return their sizes and digests for it."""
    digests: dict[str, Callable[[], list[Piece]]] = {}
    flushed = []
    # Flush each file while the next is written and hashed.
    with ThreadPoolExecutor(len(TENSOR_FILES), "dovetail-flush") as flush_pool:
        for part, name in TENSOR_FILES.items():
            with (staging / name).open("xb", buffering=0) as file:
                digests[part] = write_tensors(file, encoded.tensors[part], pool)
            flushed.append(flush_pool.submit(sync_file, staging / name))
        shards: dict[str, list[Piece]] = {}
        if write_shards is not None and any(encoded.sharded.values()):
            shards = dict(write_shards(staging, encoded.sharded))
        pieces = {part: digest() for part, digest in digests.items()} | shards
    for flush in flushed:
        flush.result()
    tree = {
        "tree": encoded.tree,
        "strides": encoded.strides,
        "pieces": {name: pieces_to_json(of_file) for name, of_file in pieces.items()},
    }
    text = json.dumps(tree, allow_nan=False, separators=(",", ":")).encode()
    write_atomic(staging / TREE, text)
    files = {
        TENSOR_FILES.get(name, name): (of_file[-1].end, combined_digest(of_file)) for name, of_file in pieces.items()
    }
    return files | {TREE: (len(text), sha256(text))}


# --- read -------------------------------------------------------------------------------------------------------------


def read_checkpoint(directory: Path, allocate: Allocate | None = None) -> dict[str, Any]:
    """Return the state of a checkpoint, with its tensors on the CPU; every file is verified before it is parsed.

    Args:
        directory: the checkpoint.
        allocate: if given, every rank must make this call, and each reads only its shards into the tensors that
            ``allocate`` returns. The shards are not verified: one process must have called
            :func:`~dovetail.checkpoint.verify.verify` for all of them.

    Raises:
        CheckpointError: the checkpoint is incomplete, invalid or missing.
    """
    manifest = read_manifest(directory)
    state = _read(directory, manifest, (*TENSOR_FILES,), (), allocate)
    if not isinstance(state, dict):
        raise CheckpointError(directory / TREE, "the state is not a dict")
    return state


def read_model(directory: Path, allocate: Allocate | None = None) -> Any:
    """Return the state under ``model``, the model's ``state_dict``, without reading other tensors.

    Args:
        directory: the checkpoint.
        allocate: as for :func:`read_checkpoint`.

    Raises:
        CheckpointError: the checkpoint is incomplete, invalid or missing, or has no model.
    """
    return _read(directory, read_manifest(directory), (MODEL,), (MODEL,), allocate)


def _read(
    directory: Path, manifest: Manifest, parts: Sequence[str], path: Sequence[str], allocate: Allocate | None
) -> Any:
    """Return the value at ``path`` of the state, whose tensors are all in ``parts``."""
    tree = read_tree(directory, manifest)
    node = tree["tree"]
    for name in path:
        if not isinstance(node, dict) or name not in node:
            raise CheckpointError(directory, f"there is no {name} in this checkpoint")
        node = node[name]
    with read_pool() as pool:
        stored = {part: _read_tensors(directory, manifest, tree, part, pool) for part in parts}
        if allocate is None:
            for part in parts:
                _verify_shards(directory, manifest, tree, part, pool)
    sharded: dict[ShardedSpec, torch.Tensor] = {}
    remaining = {
        part: sum(length for name, (length, _) in manifest.files.items() if name.startswith(f"{folder}/"))
        for part, folder in SHARD_FOLDERS.items()
    }

    def allocate_within_files(spec: ShardedSpec) -> torch.Tensor:
        remaining[spec.file] -= spec.nbytes
        if remaining[spec.file] < 0:
            raise ValueError(f"the files are too small for '{spec.key}'")
        return (allocate or allocate_full)(spec)

    state = _decode(directory, node, stored, sharded, allocate_within_files)
    read_shards(directory, sharded, alone=allocate is None)
    return state


def _read_tensors(
    directory: Path, manifest: Manifest, tree: Mapping[str, Any], part: str, pool: Executor
) -> dict[str, torch.Tensor]:
    name = TENSOR_FILES[part]
    stored = read_tensors(directory / name, pieces_of(directory, manifest, tree, name), pool)
    try:
        return stored | {
            key: with_strides(stored[key], stride) for key, stride in tree["strides"].get(part, {}).items()
        }
    except MALFORMED as error:
        raise CheckpointError(directory / name, f"the tensors cannot be read: {error}") from error


def _verify_shards(directory: Path, manifest: Manifest, tree: Mapping[str, Any], part: str, pool: Executor) -> None:
    for name in sorted(manifest.files):
        if name.startswith(f"{SHARD_FOLDERS[part]}/"):
            for problem in read_pieces(directory / name, pieces_of(directory, manifest, tree, name), pool):
                raise problem


def _decode(
    directory: Path,
    tree: Any,
    stored: Mapping[str, Mapping[str, torch.Tensor]],
    sharded: dict[ShardedSpec, torch.Tensor],
    allocate: Allocate,
) -> Any:
    """Return the state in ``tree``; its sharded tensors are added to ``sharded``, not yet filled."""

    def tensor(reference: Any) -> torch.Tensor:
        if "share" not in reference:
            return resolve_reference(reference, stored)
        spec = ShardedSpec.from_reference(reference)
        if spec not in sharded:
            sharded[spec] = allocate(spec)
        return sharded[spec]

    try:
        return decode(tree, tensor)
    except (*MALFORMED, RecursionError) as error:
        raise CheckpointError(directory / TREE, f"the state cannot be read: {type(error).__name__}: {error}") from error
