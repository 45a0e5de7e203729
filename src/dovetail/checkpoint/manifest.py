"""The manifest of a checkpoint: written last, read first, without torch. Also file names and errors of checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from dovetail.storage.errors import format_bytes

MANIFEST: Final = "manifest.json"
#: The part of the state whose tensors have a file of their own, and the name for all other tensors.
MODEL: Final = "model"
STATE: Final = "state"
#: Everything except tensors, references to the tensors, and the digests of their pieces.
TREE: Final = "state.json"
TENSOR_FILES: Final = {part: f"{part}.safetensors" for part in (MODEL, STATE)}
#: Folders of sharded tensors: one file per process, named by torch.
SHARD_FOLDERS: Final = {part: f"{part}.shards" for part in (MODEL, STATE)}
#: The files of every checkpoint, in the order in which they are written.
FILES: Final = (*TENSOR_FILES.values(), TREE)

#: Suffixes of files written by ``torch.save``: read only on request, never written.
PICKLE_SUFFIXES: Final = frozenset({".bin", ".ckpt", ".pt", ".pth"})

#: What parsing malformed content raises.
MALFORMED: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RuntimeError)
#: Bytes of the largest manifest; a larger file is refused before it is read.
MAX_MANIFEST: Final = 1 << 20

_SHARD: Final = re.compile(rf"({'|'.join(map(re.escape, SHARD_FOLDERS.values()))})/[a-z0-9-]+\.safetensors")
_FORMAT: Final = "dovetail-checkpoint"
_VERSION: Final = 1


class CheckpointError(Exception):
    """A checkpoint is incomplete, invalid or missing. The message names the faulty file; so does :attr:`path`.

    :attr:`tensor` is the name of the damaged tensor in that file, if known.
    """

    def __init__(self, path: Path, message: str, tensor: str | None = None) -> None:
        super().__init__(path, message, tensor)
        self.path = path
        self.message = message
        self.tensor = tensor

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@frozen
class Manifest:
    """The content of ``manifest.json``."""

    #: Facts to read without opening the other files: numbers, text, lists and dicts.
    info: Mapping[str, Any]
    #: Size in bytes and SHA-256 of each file, by name. For a file of tensors, the digest covers its pieces' digests.
    files: Mapping[str, tuple[int, str]] = field(factory=dict)

    def to_bytes(self) -> bytes:
        """Return the content of the file.

        Raises:
            TypeError: ``info`` holds something other than numbers, text, lists and dicts with text as keys.
        """
        body = {
            "format": _FORMAT,
            "version": _VERSION,
            "info": _encode(self.info, "info"),
            "files": {name: {"size": length, "sha256": digest} for name, (length, digest) in self.files.items()},
        }
        return manifest_json({**body, "digest": hashlib.sha256(manifest_json(body)).hexdigest()})


def manifest_json(value: Mapping[str, Any]) -> bytes:
    """Return the one JSON text that a manifest of this content may have."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _encode(value: Any, path: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path}: a manifest holds numbers, text, lists and dicts, not a {type(value).__name__}")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: _decode(item) for key, item in value.items()}
    (tag, text), *others = value.items()
    if others or tag != "$float" or text not in {"nan", "inf", "-inf"}:
        raise ValueError(f"unknown tag '{tag}'")
    return float(text)


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a checkpoint, after checking that its files exist and have the right sizes.

    This is fast enough to list checkpoints; :func:`~dovetail.checkpoint.verify.verify` also reads the files.

    Raises:
        CheckpointError: there is no valid manifest, or a file is missing or has the wrong size.
    """
    path = directory / MANIFEST
    try:
        raw = read_at_most(path, MAX_MANIFEST)
    except FileNotFoundError:
        if not directory.is_dir():
            raise CheckpointError(directory, "there is no such checkpoint") from None
        raise CheckpointError(
            path, "there is no manifest: this is not a checkpoint, or writing it was interrupted"
        ) from None
    manifest = parse_manifest(path, raw)
    for name, (length, _) in manifest.files.items():
        file = directory / name
        try:
            found = file.stat().st_size
        except OSError as error:
            raise CheckpointError(file, f"this file is missing ({error.strerror})") from error
        if found != length:
            raise CheckpointError(file, f"this file has {found:,} bytes, but the manifest says {length:,}")
    return manifest


def parse_manifest(path: Path, raw: bytes) -> Manifest:
    """Return the manifest whose file ``path`` holds ``raw``.

    Raises:
        CheckpointError: the content is not a manifest, or is damaged.
    """
    try:
        value = json.loads(raw)
        version = value["version"]
        if value["format"] != _FORMAT or not isinstance(version, int):
            raise ValueError("another format")
        files = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in value["files"].items()}
        info = value["info"]
    except (*MALFORMED, RecursionError) as error:
        raise CheckpointError(path, f"this is not a checkpoint manifest ({type(error).__name__})") from error
    if version != _VERSION:
        raise CheckpointError(path, f"this checkpoint has format version {version}; this Dovetail reads {_VERSION}")
    try:
        manifest = Manifest(_decode(info), files)
        intact = manifest.to_bytes() == raw and _are_valid_names(files) and isinstance(info, dict)
    except (*MALFORMED, RecursionError) as error:
        raise CheckpointError(path, f"the manifest is damaged ({type(error).__name__})") from error
    if not intact:
        raise CheckpointError(path, "the manifest is damaged: it does not match its own digest")
    return manifest


def _are_valid_names(files: Mapping[str, Any]) -> bool:
    return files.keys() >= set(FILES) and all(map(_SHARD.fullmatch, files.keys() - set(FILES)))


def read_at_most(path: Path, limit: int) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file cannot be read, or is larger than ``limit`` bytes.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise CheckpointError(
                    path, f"this file is larger than {format_bytes(limit)}, the limit for this file of a checkpoint"
                )
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(path, f"this file cannot be read ({error.strerror})") from error
