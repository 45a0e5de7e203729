"""What a checkpoint says about itself: the file that is written last, and read first, without torch."""

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

from dovetail.checkpoint.errors import CheckpointError
from dovetail.storage.errors import format_bytes

MANIFEST: Final = "manifest.json"
#: The part of the state whose tensors get a file of their own, and the file of all others.
MODEL: Final = "model"
STATE: Final = "state"
#: Everything that is no tensor, where tensors belong, and the digests of their pieces.
TREE: Final = "state.json"
TENSOR_FILES: Final = {file: f"{file}.safetensors" for file in (MODEL, STATE)}
#: Where the shares of several processes are, if state was shared out: one file each, named by torch.
SHARE_FOLDERS: Final = {file: f"{file}.shards" for file in (MODEL, STATE)}
#: The files that every checkpoint has, in the order they are written.
FILES: Final = (*TENSOR_FILES.values(), TREE)

#: How names of files of torch.save end: read only where that is asked for, and never written.
PICKLED: Final = frozenset({".bin", ".ckpt", ".pt", ".pth"})

#: What a file may contain makes JSON readers, and what is done with what they return, raise.
MALFORMED: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RuntimeError)

_SHARE: Final = re.compile(rf"({'|'.join(map(re.escape, SHARE_FOLDERS.values()))})/[a-z0-9-]+\.safetensors")
_FORMAT: Final = "dovetail-checkpoint"
_VERSION: Final = 1
#: Bytes of the largest manifest: nobody's file is read into memory before its size is known to be sane.
LARGEST: Final = 1 << 20


@frozen
class Manifest:
    """What a checkpoint says about itself."""

    #: Facts that can be read without opening the rest: numbers, text, lists and dicts.
    info: Mapping[str, Any]
    #: Size in bytes and SHA-256 of each file, by name. That of a file of tensors is over the digests of its pieces.
    files: Mapping[str, tuple[int, str]] = field(factory=dict)

    def rendered(self) -> bytes:
        """Return the file.

        Raises:
            TypeError: ``info`` holds something else than numbers, text, lists and dicts with text as keys.
        """
        body = {
            "format": _FORMAT,
            "version": _VERSION,
            "info": _encoded(self.info, "info"),
            "files": {name: {"size": length, "sha256": digest} for name, (length, digest) in self.files.items()},
        }
        return canonical({**body, "digest": hashlib.sha256(canonical(body)).hexdigest()})


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return the one way to write ``value`` as JSON."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _encoded(value: Any, path: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encoded(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_encoded(item, f"{path}[{number}]") for number, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path}: a manifest holds numbers, text, lists and dicts, not a {type(value).__name__}")


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: _decoded(item) for key, item in value.items()}
    (tag, text), *others = value.items()
    if others or tag != "$float" or text not in {"nan", "inf", "-inf"}:
        raise ValueError(f"an unknown tag '{tag}'")
    return float(text)


def read_manifest(directory: Path) -> Manifest:
    """Return what the checkpoint says about itself, having checked that its files are there with the right sizes.

    That is quick, and enough to list checkpoints; :func:`~dovetail.checkpoint.verify.verify` reads the files too.

    Raises:
        CheckpointError: there is no valid manifest, or a file is missing or has another size.
    """
    path = directory / MANIFEST
    try:
        raw = read_bytes(path, LARGEST)
    except FileNotFoundError:
        if not directory.is_dir():
            raise CheckpointError(directory, "there is no such checkpoint") from None
        raise CheckpointError(
            path, "there is no manifest: this is no checkpoint, or its writing was cut short"
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
    """Return the manifest that the bytes of the file ``path`` are.

    Raises:
        CheckpointError: they are none, or damaged.
    """
    try:
        value = json.loads(raw)
        version = value["version"]
        if value["format"] != _FORMAT or not isinstance(version, int):
            raise ValueError("another format")
        files = {str(name): (int(one["size"]), str(one["sha256"])) for name, one in value["files"].items()}
        info = value["info"]
    except (*MALFORMED, RecursionError) as error:
        raise CheckpointError(path, f"this is no manifest of a checkpoint ({type(error).__name__})") from error
    if version != _VERSION:
        raise CheckpointError(path, f"this checkpoint has format version {version}; this Dovetail reads {_VERSION}")
    try:
        manifest = Manifest(_decoded(info), files)
        intact = manifest.rendered() == raw and _named_well(files) and isinstance(info, dict)
    except (*MALFORMED, RecursionError) as error:
        raise CheckpointError(path, f"the manifest is damaged ({type(error).__name__})") from error
    if not intact:
        raise CheckpointError(path, "the manifest is damaged: it does not match its own digest")
    return manifest


def _named_well(files: Mapping[str, Any]) -> bool:
    return files.keys() >= set(FILES) and all(map(_SHARE.fullmatch, files.keys() - set(FILES)))


def read_bytes(path: Path, largest: int) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: it is not there.
        CheckpointError: it cannot be read, or has more than ``largest`` bytes.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > largest:
                raise CheckpointError(
                    path, f"this file is larger than {format_bytes(largest)}, which no checkpoint of ours is"
                )
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(path, f"this file cannot be read ({error.strerror})") from error
