"""A checkpoint on disk: a folder of four files, without pickle, so that opening a stranger's never runs code.

========================  ==============================================================================================
``model.safetensors``     the model's tensors under their own names, for any program that reads safetensors
``state.safetensors``     all other tensors
``state.json``            everything that is no tensor, and where the tensors belong (:mod:`dovetail.checkpoint.tree`)
``manifest.json``         written last: size and SHA-256 of each file, and a few facts such as the step; its own digest
========================  ==============================================================================================

It is written under another name, flushed and renamed, so it is there whole or not at all, and it is checked before
it is
read: a folder without a valid manifest is no checkpoint.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from attrs import field, frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.tensors import MODEL, STATE, laid_out, resolve
from dovetail.checkpoint.tree import Encoder, decode
from dovetail.storage.atomic import make_folder, staged_folder, sync_file, write_atomic
from dovetail.storage.errors import StorageError, size, storage_error

MANIFEST: Final = "manifest.json"
_TREE: Final = "state.json"
_TENSORS: Final = {file: f"{file}.safetensors" for file in (MODEL, STATE)}
#: The files that a manifest lists, in the order they are written and, for a copy elsewhere, to be copied.
FILES: Final = (*_TENSORS.values(), _TREE)

_FORMAT: Final = "dovetail-checkpoint"
_VERSION: Final = 1
_LARGEST_MANIFEST: Final = 1 << 20  # bytes: nobody's file is read into memory before its size is known to be sane
_LARGEST_TREE: Final = 1 << 29
_MALFORMED: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RuntimeError)


@frozen
class Encoded:
    """State in the form that is written: JSON values, and tensors by file and key. The tensors may be the live ones."""

    tree: Any
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    strides: Mapping[str, Mapping[str, list[int]]]

    def nbytes(self) -> int:
        """Return how many bytes the tensors take."""
        return sum(tensor.nbytes for file in self.tensors.values() for tensor in file.values())


@frozen
class Manifest:
    """What a checkpoint says about itself."""

    #: Facts that can be read without opening the rest: numbers, text, lists and dicts.
    info: Mapping[str, Any]
    #: Size in bytes and SHA-256 of each file, by name.
    files: Mapping[str, tuple[int, str]] = field(factory=dict)


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
    facts = Encoder().encode(dict(info or {}), ("info",))
    try:
        make_folder(directory.parent)
        with staged_folder(directory) as staging:
            tree = {"tree": encoded.tree, "strides": encoded.strides}
            write_atomic(staging / _TREE, json.dumps(tree, allow_nan=False, separators=(",", ":")).encode())
            for file, name in _TENSORS.items():
                _write_tensors(staging / name, encoded.tensors[file])
                # The library makes files that only their owner can read, whatever the umask says.
                (staging / name).chmod((staging / _TREE).stat().st_mode & 0o777)
            manifest = Manifest(facts, {name: _digest(staging / name) for name in FILES})
            write_atomic(staging / MANIFEST, _rendered(manifest))
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(directory, error, "write", needed=encoded.nbytes()) from error
    return Manifest(dict(info or {}), manifest.files)


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    try:
        save_file({key: tensor.cpu() for key, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # Its errors are no OSError, but say which one it was.
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error), str(path)) from error
    sync_file(path)


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _rendered(manifest: Manifest) -> bytes:
    body = {
        "format": _FORMAT,
        "version": _VERSION,
        "info": manifest.info,
        "files": {name: {"size": length, "sha256": digest} for name, (length, digest) in manifest.files.items()},
    }
    digest = hashlib.sha256(_canonical(body)).hexdigest()
    return _canonical({**body, "digest": digest})


def _canonical(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


# --- back -----------------------------------------------------------------------------------------------------------


def read_manifest(directory: Path) -> Manifest:
    """Return what the checkpoint says about itself, having checked that its files are there with the right sizes.

    That is quick, and enough to list checkpoints; :func:`verify` reads the files too.

    Raises:
        CheckpointError: there is no valid manifest, or a file is missing or has another size.
    """
    path = directory / MANIFEST
    try:
        raw = _read(path, _LARGEST_MANIFEST)
    except FileNotFoundError:
        if not directory.is_dir():
            raise CheckpointError(directory, "there is no such checkpoint") from None
        raise CheckpointError(
            path, "there is no manifest: this is no checkpoint, or its writing was cut short"
        ) from None
    manifest = _parsed_manifest(path, raw)
    for name, (length, _) in manifest.files.items():
        file = directory / name
        try:
            found = file.stat().st_size
        except OSError as error:
            raise CheckpointError(file, f"this file is missing ({error.strerror})") from error
        if found != length:
            raise CheckpointError(file, f"this file has {found:,} bytes, but the manifest says {length:,}")
    return manifest


def _parsed_manifest(path: Path, raw: bytes) -> Manifest:
    try:
        value = json.loads(raw)
        version = value["version"]
        if value["format"] != _FORMAT or not isinstance(version, int):
            raise ValueError("another format")
        files = {str(name): (int(one["size"]), str(one["sha256"])) for name, one in value["files"].items()}
        manifest = Manifest(value["info"], files)
    except (*_MALFORMED, RecursionError) as error:
        raise CheckpointError(path, f"this is no manifest of a checkpoint ({type(error).__name__})") from error
    if version != _VERSION:
        raise CheckpointError(path, f"this checkpoint has format version {version}; this Dovetail reads {_VERSION}")
    try:
        intact = _rendered(manifest) == raw and set(files) == set(FILES)
        info = decode(manifest.info, _no_tensors)
    except (*_MALFORMED, RecursionError) as error:
        raise CheckpointError(path, f"the manifest is damaged ({type(error).__name__})") from error
    if not intact or not isinstance(info, dict):
        raise CheckpointError(path, "the manifest is damaged: it does not match its own digest")
    return Manifest(info, files)


def _no_tensors(reference: Any) -> torch.Tensor:
    raise ValueError(f"a tensor in the manifest: {reference}")


def _read(path: Path, largest: int) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > largest:
                raise CheckpointError(path, f"this file is larger than {size(largest)}, which no checkpoint of ours is")
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(path, f"this file cannot be read ({error.strerror})") from error


def verify(directory: Path, names: tuple[str, ...] = FILES) -> Manifest:
    """Return what the checkpoint says about itself, having checked every byte of its files.

    Args:
        directory: the checkpoint.
        names: the files to check, where not all will be read.

    Raises:
        CheckpointError: a file is missing, cut short or altered; the message and ``path`` name it.
    """
    manifest = read_manifest(directory)
    for name in names:
        path = directory / name
        try:
            _, digest = _digest(path)
        except OSError as error:
            raise CheckpointError(path, f"this file cannot be read ({error.strerror})") from error
        if digest != manifest.files[name][1]:
            raise CheckpointError(path, "this file is damaged: its content does not match the manifest")
    return manifest


def read_checkpoint(directory: Path) -> dict[str, Any]:
    """Return the state of a checkpoint, with its tensors on the CPU; every file is verified before it is parsed.

    Raises:
        CheckpointError: it is not whole, not valid or not there.
    """
    verify(directory)
    tree = _tree(directory)
    kept = {file: _tensors(directory / name, tree["strides"].get(file, {})) for file, name in _TENSORS.items()}
    state = _decoded(directory, tree["tree"], kept)
    if not isinstance(state, dict):
        raise CheckpointError(directory / _TREE, "the state is no dict")
    return state


def read_model(directory: Path) -> Any:
    """Return what a checkpoint keeps under ``model``, its ``state_dict``, without reading the other tensors.

    Raises:
        CheckpointError: it is not whole, not valid, not there, or has no model.
    """
    verify(directory, (_TENSORS[MODEL], _TREE))
    tree = _tree(directory)
    if not isinstance(tree["tree"], dict) or MODEL not in tree["tree"]:
        raise CheckpointError(directory, "there is no model in this checkpoint")
    path = directory / _TENSORS[MODEL]
    kept = {MODEL: _tensors(path, tree["strides"].get(MODEL, {}))}
    return _decoded(directory, tree["tree"][MODEL], kept)


def _tree(directory: Path) -> dict[str, Any]:
    path = directory / _TREE
    try:
        tree = json.loads(_read(path, _LARGEST_TREE))
        if set(tree) != {"tree", "strides"} or not all(isinstance(one, dict) for one in tree["strides"].values()):
            raise ValueError("other keys")
    except (*_MALFORMED, OSError, RecursionError) as error:
        raise CheckpointError(path, f"this is no state of a checkpoint ({type(error).__name__})") from error
    return dict(tree)


def _tensors(path: Path, strides: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            # Copied, so that nothing depends on the file once it has been read.
            kept = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (it is no dict)
        return kept | {key: laid_out(kept[key], stride) for key, stride in strides.items()}
    except (*_MALFORMED, OSError, SafetensorError) as error:
        raise CheckpointError(path, f"the tensors cannot be read: {error}") from error


def _decoded(directory: Path, tree: Any, kept: Mapping[str, Mapping[str, torch.Tensor]]) -> Any:
    try:
        return decode(tree, lambda reference: resolve(reference, kept))
    except (*_MALFORMED, RecursionError) as error:
        raise CheckpointError(
            directory / _TREE, f"the state cannot be read: {type(error).__name__}: {error}"
        ) from error
