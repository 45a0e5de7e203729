"""A checkpoint on disk: a folder of four files, without pickle, so that opening a stranger's never runs code.

========================  ==============================================================================================
``model.safetensors``     the model's tensors under their own names, for any program that reads safetensors
``state.safetensors``     all other tensors
``state.json``            everything that is no tensor, where the tensors belong (:mod:`dovetail.checkpoint.tree`),
                          and the digests of their pieces (:mod:`dovetail.checkpoint.pieces`)
``manifest.json``         written last: size and SHA-256 of each file, and a few facts such as the step; its own digest
========================  ==============================================================================================

It is written under another name, flushed and renamed, so it is there whole or not at all, and it is checked before it
is read: a folder without a valid manifest is no checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.manifest import MALFORMED, MANIFEST, MODEL, TENSOR_FILES, TREE, Manifest, read_manifest
from dovetail.checkpoint.pieces import hashers, readers, root, sha256, to_json
from dovetail.checkpoint.tensor_file import read_tensors, write_tensors
from dovetail.checkpoint.tensors import laid_out, resolve
from dovetail.checkpoint.tree import Encoder, decode
from dovetail.checkpoint.verify import pieces_of, read_tree
from dovetail.storage.atomic import make_folder, staged_folder, sync_file, write_atomic
from dovetail.storage.errors import StorageError, storage_error


@frozen
class Encoded:
    """State in the form that is written: JSON values, and tensors by file and key. The tensors may be the live ones."""

    tree: Any
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    strides: Mapping[str, Mapping[str, list[int]]]

    def nbytes(self) -> int:
        """Return how many bytes the tensors take."""
        return sum(tensor.nbytes for file in self.tensors.values() for tensor in file.values())


def encode(state: Mapping[str, Any]) -> Encoded:
    """Return ``state`` in the form that is written, without writing it: also the trial of whether it can be.

    Args:
        state: a tree of numbers, text, tensors, NumPy arrays, lists, tuples, sets and dicts. What is under ``model``
            gets a file of its own.

    Raises:
        TypeError: it holds something else; the message names the path to it.
    """
    encoder = Encoder()
    tree = encoder.encode(dict(state))
    tensors, strides = encoder.keeper.place()
    return Encoded(tree, tensors, strides)


def write_checkpoint(
    directory: Path, state: Mapping[str, Any] | Encoded, info: Mapping[str, Any] | None = None
) -> Manifest:
    """Write a checkpoint as ``directory``, which must not exist: checkpoints are never overwritten.

    When this returns, all of it is on the disk. When it fails, or the process or machine dies, there is no
    ``directory``.

    Args:
        directory: the folder to make; the folders above it are made too.
        state: a tree as for :func:`encode`, or what that returned.
        info: facts for the manifest.

    Raises:
        TypeError: the state or info holds what cannot be kept.
        StorageError: it cannot be written; with a full disk the message says how many bytes were needed.
    """
    encoded = state if isinstance(state, Encoded) else encode(state)
    facts = Manifest(dict(info or {}))
    facts.rendered()  # what cannot be kept is refused before anything is written
    try:
        make_folder(directory.parent)
        with staged_folder(directory) as staging, hashers() as pool:
            manifest = evolve(facts, files=_write_files(staging, encoded, pool))
            write_atomic(staging / MANIFEST, manifest.rendered())
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(directory, error, "write", needed=encoded.nbytes()) from error
    return manifest


def _write_files(staging: Path, encoded: Encoded, pool: Executor) -> dict[str, tuple[int, str]]:
    """Write all but the manifest, and return what it says of the files."""
    digests, flushed = {}, []
    # One file is flushed while the next is written and hashed.
    with ThreadPoolExecutor(len(TENSOR_FILES), "dovetail-flush") as flushing:
        for file, name in TENSOR_FILES.items():
            with (staging / name).open("xb", buffering=0) as opened:
                digests[file] = write_tensors(opened, encoded.tensors[file], pool)
            flushed.append(flushing.submit(sync_file, staging / name))
        pieces = {file: digest() for file, digest in digests.items()}
    for one in flushed:
        one.result()
    tree = {
        "tree": encoded.tree,
        "strides": encoded.strides,
        "pieces": {file: to_json(some) for file, some in pieces.items()},
    }
    text = json.dumps(tree, allow_nan=False, separators=(",", ":")).encode()
    write_atomic(staging / TREE, text)
    files = {TENSOR_FILES[file]: (some[-1].end, root(some)) for file, some in pieces.items()}
    return files | {TREE: (len(text), sha256(text))}


# --- back -----------------------------------------------------------------------------------------------------------


def read_checkpoint(directory: Path) -> dict[str, Any]:
    """Return the state of a checkpoint, with its tensors on the CPU; all of it is verified before it is parsed.

    Raises:
        CheckpointError: it is not whole, not valid or not there.
    """
    manifest = read_manifest(directory)
    tree = read_tree(directory, manifest)
    with readers() as pool:
        kept = {file: _tensors(directory, manifest, tree, file, pool) for file in TENSOR_FILES}
    state = _decoded(directory, tree["tree"], kept)
    if not isinstance(state, dict):
        raise CheckpointError(directory / TREE, "the state is no dict")
    return state


def read_model(directory: Path) -> Any:
    """Return what a checkpoint keeps under ``model``, its ``state_dict``, without reading the other tensors.

    Raises:
        CheckpointError: it is not whole, not valid, not there, or has no model.
    """
    manifest = read_manifest(directory)
    tree = read_tree(directory, manifest)
    if not isinstance(tree["tree"], dict) or MODEL not in tree["tree"]:
        raise CheckpointError(directory, "there is no model in this checkpoint")
    with readers() as pool:
        kept = {MODEL: _tensors(directory, manifest, tree, MODEL, pool)}
    return _decoded(directory, tree["tree"][MODEL], kept)


def _tensors(
    directory: Path, manifest: Manifest, tree: Mapping[str, Any], file: str, pool: Executor
) -> dict[str, torch.Tensor]:
    name = TENSOR_FILES[file]
    kept = read_tensors(directory / name, pieces_of(directory, manifest, tree, name), pool)
    try:
        return kept | {key: laid_out(kept[key], stride) for key, stride in tree["strides"].get(file, {}).items()}
    except MALFORMED as error:
        raise CheckpointError(directory / name, f"the tensors cannot be read: {error}") from error


def _decoded(directory: Path, tree: Any, kept: Mapping[str, Mapping[str, torch.Tensor]]) -> Any:
    try:
        return decode(tree, lambda reference: resolve(reference, kept))
    except (*MALFORMED, RecursionError) as error:
        raise CheckpointError(directory / TREE, f"the state cannot be read: {type(error).__name__}: {error}") from error
