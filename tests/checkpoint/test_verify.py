"""Tests of verification: any damage is found, and the faulty file named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch

from dovetail.checkpoint.format import read_checkpoint, write_checkpoint
from dovetail.checkpoint.layout import MAX_PIECE
from dovetail.checkpoint.manifest import FILES, MANIFEST, CheckpointError, read_manifest
from dovetail.checkpoint.verify import find_problems
from states import header, reseal


def test_verification_reports_progress(saved):
    """Every byte counts once, except the headers."""
    progress: list[int] = []

    assert list(find_problems(saved, progress=progress.append)) == []
    headers = [json.loads((saved / "state.json").read_bytes())["pieces"][file][0][0] for file in ("model", "state")]
    assert sum(progress) == sum(size for size, _ in read_manifest(saved).files.values()) - sum(headers)


@pytest.mark.slow
def test_verification_needs_no_torch(saved):
    """It starts quickly, even on a machine without torch."""
    code = f"""
import sys
from pathlib import Path
sys.modules["torch"] = sys.modules["numpy"] = None
from dovetail.checkpoint.verify import verify
print(verify(Path({str(saved)!r})).info["step"])
"""

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"12\n"


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_truncation_at_any_byte_is_found(damaged, name):
    """Reliability 5: the error names the file."""
    path = damaged / name
    intact = path.read_bytes()
    for length in range(len(intact)):
        path.write_bytes(intact[:length])
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(damaged)
        assert caught.value.path == path
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_any_flipped_bit_is_found(damaged, name):
    """Reliability 5: in every byte; the error names the file."""
    path = damaged / name
    intact = path.read_bytes()
    for place in range(len(intact)):
        changed = bytearray(intact)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(damaged)
        assert caught.value.path == path


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_reported(damaged, name):
    """The error names it."""
    (damaged / name).unlink()

    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(damaged)
    assert caught.value.path == damaged / name


LYING = {
    "length of the header": (1 << 62).to_bytes(8, "little") + b"{}",
    "length a little too much": (100).to_bytes(8, "little") + b"{}",
    "offsets beyond the end": header({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
    "shape and offsets": header({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, bytes(4)),
    "overflow": header({"w": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 4]}}, bytes(4)),
    "negative": header({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    "no JSON": (2).to_bytes(8, "little") + b"xx",
    "pickle": b"\x80\x04\x95cposix\nsystem\n",
    "nothing": b"",
}


@pytest.mark.parametrize("content", LYING.values(), ids=LYING)
def test_a_lying_header_allocates_no_memory(damaged, content):
    """Reliability 7: it is refused, and the error names the file."""
    reseal(damaged, model_safetensors=content)
    tracemalloc.start()

    with pytest.raises(CheckpointError, match=r"model.safetensors: the tensors cannot be read"):
        read_checkpoint(damaged)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tree": 1, "strides": 2}',
        b"[" * 100_000,
        b'{"tree": ' + b"9" * 5000 + b', "strides": {}}',
        b'{"tree": {}, "strides": {"model": 3}}',
        b'{"tree": [], "strides": {}}',
        b"\xff",
    ],
)
def test_a_malformed_tree_is_refused(damaged, content):
    """It may be empty, nested too deeply, a huge number, or not text."""
    reseal(damaged, state_json=content)

    with pytest.raises(CheckpointError, match=r"state.json: "):
        read_checkpoint(damaged)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a checkpoint whose first tensor has three pieces and whose second has one."""
    path = tmp_path_factory.mktemp("large") / "step"
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(256, (2 * MAX_PIECE + 5,), dtype=torch.uint8, generator=generator)
    write_checkpoint(path, {"model": {"first": first, "second": torch.arange(9.0)}})
    return path


@pytest.mark.parametrize(
    "places",
    [
        {"first": [0]},
        {"first": [MAX_PIECE - 1]},
        {"first": [MAX_PIECE]},
        {"first": [2 * MAX_PIECE + 4]},
        {"second": [35]},
        {"first": [5, MAX_PIECE + 5], "second": [0]},
    ],
    ids=str,
)
def test_damage_in_any_piece_of_a_large_file_is_found(large, tmp_path, places):
    """Each damaged tensor is named once, however many of its pieces are damaged."""
    path = Path(shutil.copytree(large, tmp_path / "step"))
    with (path / "model.safetensors").open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
        for name, offsets in places.items():
            for offset in offsets:
                file.seek(8 + length + entries[name]["data_offsets"][0] + offset)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))

    assert sorted(problem.tensor for problem in find_problems(path)) == sorted(places)
    assert list(find_problems(large)) == []


def test_a_large_tensor_is_read_back(large):
    """Its pieces are joined in order."""
    tensor = read_checkpoint(large)["model"]["first"]
    generator = torch.Generator().manual_seed(0)

    assert torch.equal(tensor, torch.randint(256, tensor.shape, dtype=torch.uint8, generator=generator))
