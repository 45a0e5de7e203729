"""Tests of the tensor files: safetensors, in pieces."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from dovetail.checkpoint.format import read_model, write_checkpoint
from dovetail.checkpoint.layout import hash_pool
from dovetail.checkpoint.manifest import FILES, MANIFEST, CheckpointError
from dovetail.checkpoint.tensor_file import SAFETENSORS_NAMES, read_tensors, write_tensors
from dovetail.checkpoint.verify import find_problems
from states import equal


def test_the_model_file_is_plain_safetensors(tmp_path):
    """It has the model's own names, and the file mode that the umask allows."""
    model = torch.nn.Linear(3, 2)
    write_checkpoint(tmp_path / "a", {"model": model.state_dict(), "optimizer": {}})

    assert equal(load_file(tmp_path / "a" / "model.safetensors"), dict(sorted(model.state_dict().items())))
    modes = {(tmp_path / "a" / name).stat().st_mode & 0o777 for name in (*FILES, MANIFEST)}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}


@pytest.mark.slow
@given(
    st.dictionaries(
        st.text(max_size=4).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(SAFETENSORS_NAMES, key=str)), st.lists(st.integers(0, 3), max_size=3)),
        max_size=6,
    )
)
def test_files_equal_those_of_the_safetensors_library(tmp_path_factory, kinds):
    """Byte for byte, for any dtypes, shapes and names."""
    tensors = {name: torch.arange(math.prod(shape)).reshape(shape).to(dtype) for name, (dtype, shape) in kinds.items()}
    path = tmp_path_factory.mktemp("file") / "model.safetensors"

    with hash_pool() as pool:
        with path.open("xb", buffering=0) as file:
            pieces = write_tensors(file, tensors, pool)()
        found = read_tensors(path, pieces, pool)
        assert equal({name: found[name] for name in tensors}, tensors)

    assert path.read_bytes() == save(tensors, {"format": "pt"})


def test_a_large_tensor_is_many_pieces(tmp_path):
    """Each piece is hashed by itself, and damage in any piece is reported once for the tensor."""
    large = torch.arange(10_000_000, dtype=torch.int32)
    write_checkpoint(tmp_path / "a", {"model": {"large": large, "small": torch.ones(3)}})
    path = tmp_path / "a" / "model.safetensors"

    pieces = json.loads((tmp_path / "a" / "state.json").read_bytes())["pieces"]["model"]
    header = pieces[0][0]

    assert [end - header for end, _ in pieces] == [0, 12, 12 + (1 << 24), 12 + (2 << 24), 40_000_012]
    assert torch.equal(read_model(tmp_path / "a")["large"], large)
    for place in (30_000_000, header, 39_999_999):
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    assert [problem.tensor for problem in find_problems(tmp_path / "a")] == ["small", "large"]
    with pytest.raises(CheckpointError, match=r"model.safetensors: this file is damaged: tensor 'small' does not"):
        read_model(tmp_path / "a")
