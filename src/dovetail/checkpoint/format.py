"""A checkpoint on disk: a folder of four files, without pickle, so that opening a stranger's never runs code.

========================  ==============================================================================================
``model.safetensors``     the model's tensors under their own names, for any program that reads safetensors
``state.safetensors``     all other tensors
``state.json``            everything that is no tensor, where the tensors belong (:mod:`dovetail.checkpoint.tree`),
                          and the digests of their pieces (:mod:`dovetail.checkpoint.pieces`)
``model.shards/``         where several processes have shares of the state: a file of each
``state.shards/``         (:mod:`dovetail.checkpoint.shares`)
``manifest.json``         written last: size and SHA-256 of each file, and a few facts such as the step; its own digest
========================  ==============================================================================================

It is written under another name, flushed and renamed, so it is there whole or not at all, and it is checked before it
is read: a folder without a valid manifest is no checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, field, frozen

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.manifest import (
    MALFORMED,
    MANIFEST,
    MODEL,
    SHARE_FOLDERS,
    TENSOR_FILES,
    TREE,
    Manifest,
    read_manifest,
)
from dovetail.checkpoint.pieces import Piece, hashers, readers, root, sha256, to_json
from dovetail.checkpoint.shares import Place, Share, Shared, ShareWriter, read_shares, whole
from dovetail.checkpoint.tensor_file import read_tensors, write_tensors
from dovetail.checkpoint.tensors import laid_out, resolve
from dovetail.checkpoint.tree import Encoder, decode
from dovetail.checkpoint.verify import pieces_of, read_pieces, read_tree
from dovetail.storage.atomic import make_folder, staged_folder, sync_file, write_atomic
from dovetail.storage.errors import StorageError, storage_error


@frozen
class Encoded:
    """State in the form that is written: JSON values, and tensors by file and key. The tensors may be the live ones."""

    tree: Any
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    strides: Mapping[str, Mapping[str, list[int]]]
    #: What this process has a share of.
    shared: Shared = field(factory=dict)

    def nbytes(self) -> int:
        """Return how many bytes the tensors take, those that are shared out in all processes together."""
        files = (*self.tensors.values(), *self.shared.values())
        return sum(tensor.nbytes for file in files for tensor in file.values())


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
    return Encoded(tree, tensors, strides, encoder.keeper.shared)


def write_checkpoint(
    directory: Path,
    state: Mapping[str, Any] | Encoded,
    info: Mapping[str, Any] | None = None,
    share_writer: ShareWriter | None = None,
) -> Manifest:
    """Write a checkpoint as ``directory``, which must not exist: checkpoints are never overwritten.

    When this returns, all of it is on the disk. When it fails, or the process or machine dies, there is no
    ``directory``.

    Args:
        directory: the folder to make; the folders above it are made too.
        state: a tree as for :func:`encode`, or what that returned.
        info: facts for the manifest.
        share_writer: writes what several processes have shares of.

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
            manifest = evolve(facts, files=_write_files(staging, encoded, share_writer, pool))
            write_atomic(staging / MANIFEST, manifest.rendered())
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(directory, error, "write", needed=encoded.nbytes()) from error
    return manifest


def _write_files(
    staging: Path, encoded: Encoded, share_writer: ShareWriter | None, pool: Executor
) -> dict[str, tuple[int, str]]:
    """Write all but the manifest, and return what it says of the files."""
    digests: dict[str, Callable[[], list[Piece]]] = {}
    flushed = []
    # One file is flushed while the next is written and hashed.
    with ThreadPoolExecutor(len(TENSOR_FILES), "dovetail-flush") as flushing:
        for file, name in TENSOR_FILES.items():
            with (staging / name).open("xb", buffering=0) as opened:
                digests[file] = write_tensors(opened, encoded.tensors[file], pool)
            flushed.append(flushing.submit(sync_file, staging / name))
        shares: dict[str, list[Piece]] = {}
        if share_writer is not None and any(encoded.shared.values()):
            shares = dict(share_writer(staging, encoded.shared))
        pieces = {file: digest() for file, digest in digests.items()}
    for one in flushed:
        one.result()
    tree = {
        "tree": encoded.tree,
        "strides": encoded.strides,
        "pieces": {file: to_json(some) for file, some in (pieces | shares).items()},
    }
    text = json.dumps(tree, allow_nan=False, separators=(",", ":")).encode()
    write_atomic(staging / TREE, text)
    files = {TENSOR_FILES.get(file, file): (some[-1].end, root(some)) for file, some in (pieces | shares).items()}
    return files | {TREE: (len(text), sha256(text))}


# --- back -----------------------------------------------------------------------------------------------------------


def read_checkpoint(directory: Path, place: Place | None = None) -> dict[str, Any]:
    """Return the state of a checkpoint, with its tensors on the CPU; all of it is verified before it is parsed.

    Args:
        directory: the checkpoint.
        place: where all processes of a run read together, each its shares: gives the memory of one. They are not
            verified then: one process has done that for all (:func:`~dovetail.checkpoint.verify.verify`).

    Raises:
        CheckpointError: it is not whole, not valid or not there.
    """
    manifest = read_manifest(directory)
    state = _read(directory, manifest, (*TENSOR_FILES,), (), place)
    if not isinstance(state, dict):
        raise CheckpointError(directory / TREE, "the state is no dict")
    return state


def read_model(directory: Path, place: Place | None = None) -> Any:
    """Return what a checkpoint keeps under ``model``, its ``state_dict``, without reading the other tensors.

    Args:
        directory: the checkpoint.
        place: as for :func:`read_checkpoint`.

    Raises:
        CheckpointError: it is not whole, not valid, not there, or has no model.
    """
    return _read(directory, read_manifest(directory), (MODEL,), (MODEL,), place)


def _read(directory: Path, manifest: Manifest, files: Sequence[str], path: Sequence[str], place: Place | None) -> Any:
    """Return what is at ``path`` of the state, all tensors of which are in ``files``."""
    tree = read_tree(directory, manifest)
    node = tree["tree"]
    for name in path:
        if not isinstance(node, dict) or name not in node:
            raise CheckpointError(directory, f"there is no {name} in this checkpoint")
        node = node[name]
    with readers() as pool:
        kept = {file: _tensors(directory, manifest, tree, file, pool) for file in files}
        if place is None:
            for file in files:
                _check_shares(directory, manifest, tree, file, pool)
    shares: dict[Share, torch.Tensor] = {}
    room = {
        file: sum(length for name, (length, _) in manifest.files.items() if name.startswith(f"{folder}/"))
        for file, folder in SHARE_FOLDERS.items()
    }

    def memory(share: Share) -> torch.Tensor:
        room[share.file] -= share.nbytes()
        if room[share.file] < 0:
            raise ValueError(f"the files are too small for '{share.key}'")
        return (place or whole)(share)

    state = _decoded(directory, node, kept, shares, memory)
    read_shares(directory, shares, alone=place is None)
    return state


def _tensors(
    directory: Path, manifest: Manifest, tree: Mapping[str, Any], file: str, pool: Executor
) -> dict[str, torch.Tensor]:
    name = TENSOR_FILES[file]
    kept = read_tensors(directory / name, pieces_of(directory, manifest, tree, name), pool)
    try:
        return kept | {key: laid_out(kept[key], stride) for key, stride in tree["strides"].get(file, {}).items()}
    except MALFORMED as error:
        raise CheckpointError(directory / name, f"the tensors cannot be read: {error}") from error


def _check_shares(directory: Path, manifest: Manifest, tree: Mapping[str, Any], file: str, pool: Executor) -> None:
    for name in sorted(manifest.files):
        if name.startswith(f"{SHARE_FOLDERS[file]}/"):
            for problem in read_pieces(directory / name, pieces_of(directory, manifest, tree, name), pool):
                raise problem


def _decoded(
    directory: Path,
    tree: Any,
    kept: Mapping[str, Mapping[str, torch.Tensor]],
    shares: dict[Share, torch.Tensor],
    place: Place,
) -> Any:
    def tensor(reference: Any) -> torch.Tensor:
        if "share" not in reference:
            return resolve(reference, kept)
        share = Share.referred(reference)
        if share not in shares:
            shares[share] = place(share)
        return shares[share]

    try:
        return decode(tree, tensor)
    except (*MALFORMED, RecursionError) as error:
        raise CheckpointError(directory / TREE, f"the state cannot be read: {type(error).__name__}: {error}") from error
