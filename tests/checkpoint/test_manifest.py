"""Tests of the manifest: its facts, and what is refused."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.manifest import FILES, MANIFEST, CheckpointError, manifest_json, read_manifest
from dovetail.checkpoint.verify import verify
from states import W


def test_facts_are_read_from_the_manifest_alone(saved):
    """It also has the sizes that the files have."""
    manifest = read_manifest(saved)

    assert manifest.info["step"] == 12
    assert math.isnan(manifest.info["metrics"]["val_loss"])
    assert {name: length for name, (length, _) in manifest.files.items()} == {
        name: (saved / name).stat().st_size for name in FILES
    }
    assert verify(saved).files == manifest.files


def test_a_folder_without_a_manifest_is_not_a_checkpoint(tmp_path):
    """A missing folder has an error of its own."""
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        read_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"manifest.json: there is no manifest: this is not a checkpoint"):
        read_checkpoint(tmp_path)


def manifest_with(**changes):
    """Return a function that changes a manifest and fixes its digest."""

    def change(path: Path) -> None:
        manifest = json.loads((path / MANIFEST).read_bytes())
        del manifest["digest"]
        manifest |= changes
        manifest["digest"] = hashlib.sha256(manifest_json(manifest)).hexdigest()
        (path / MANIFEST).write_bytes(manifest_json(manifest))

    return change


MANIFESTS = {
    "a later version": (manifest_with(version=2), "format version 2; this Dovetail reads 1"),
    "another format": (manifest_with(format="x"), "not a checkpoint manifest"),
    "no files": (manifest_with(files={}), "damaged"),
    "a file elsewhere": (manifest_with(files={"../x": {"size": 1, "sha256": ""}}), "damaged"),
    "info that is no dict": (manifest_with(info=[]), "damaged"),
    "info with a tensor": (manifest_with(info={"x": {"$tensor": W}}), "damaged"),
    "no JSON": (lambda path: (path / MANIFEST).write_bytes(b"x"), "not a checkpoint manifest"),
    "too large": (lambda path: (path / MANIFEST).write_bytes(bytes(1 << 21)), "larger than 1.05 MB"),
    "deep": (lambda path: (path / MANIFEST).write_bytes(b"[" * 100_000), "not a checkpoint manifest"),
    "a folder": (lambda path: ((path / MANIFEST).unlink(), (path / MANIFEST).mkdir()), "cannot be read"),
}


@pytest.mark.parametrize("change, message", MANIFESTS.values(), ids=MANIFESTS)
def test_a_hostile_manifest_is_refused(damaged, change, message):
    """No other file is read."""
    change(damaged)

    with pytest.raises(CheckpointError, match=rf"manifest.json: .*{message}"):
        read_checkpoint(damaged)
