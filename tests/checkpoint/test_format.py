"""Tests of writing and reading a checkpoint."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.checkpoint.format import read_checkpoint, read_model, write_checkpoint
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.storage.atomic import PREFIX
from dovetail.storage.errors import StorageError
from small_disks import small_disk
from states import VIEW, W, containers, equal, leaves, reseal, tensors


@pytest.mark.slow
@settings(max_examples=20)
@given(st.recursive(leaves, containers, max_leaves=8), st.dictionaries(st.text(max_size=5), tensors(), max_size=3))
def test_any_state_is_read_back(tmp_path_factory, state, model):
    """The model also by itself."""
    path = tmp_path_factory.mktemp("checkpoint") / "step"
    write_checkpoint(path, {"model": model, "rest": state})

    assert equal(read_checkpoint(path), {"model": model, "rest": state})
    assert equal(read_model(path), model)


def test_a_training_state_resumes_bit_for_bit(tmp_path):
    """With model, fused optimizer, scheduler and random generators."""

    def build():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 2)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.8, 0.9), fused=True)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 5])
        return model, optimizer, scheduler

    def step(model, optimizer, scheduler):
        optimizer.zero_grad()
        model(torch.rand(6, 4)).square().sum().backward()
        optimizer.step()
        scheduler.step()

    parts = build()
    for _ in range(4):
        step(*parts)
    state = dict(zip(("model", "optimizer", "scheduler"), (part.state_dict() for part in parts), strict=True))
    state["random"] = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002 (as saved)
    write_checkpoint(tmp_path / "step", state)
    for _ in range(3):
        step(*parts)

    resumed = build()
    saved = read_checkpoint(tmp_path / "step")
    for part, name in zip(resumed, ("model", "optimizer", "scheduler"), strict=True):
        part.load_state_dict(saved[name])
    random.setstate(saved["random"]["python"])
    np.random.set_state(saved["random"]["numpy"])  # noqa: NPY002 (as saved)
    torch.set_rng_state(saved["random"]["torch"])
    for _ in range(3):
        step(*resumed)

    assert equal(resumed[0].state_dict(), parts[0].state_dict())
    assert equal(resumed[1].state_dict(), parts[1].state_dict())
    assert equal(resumed[2].state_dict(), parts[2].state_dict())
    assert saved["model"]._metadata == state["model"]._metadata


def test_the_model_can_be_read_without_the_rest(damaged):
    """Even if the rest is damaged."""
    (damaged / "state.safetensors").write_bytes((damaged / "state.safetensors").read_bytes()[:-1] + b"x")

    assert read_model(damaged)["w"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(CheckpointError, match=r"state.safetensors: this file is damaged"):
        read_checkpoint(damaged)


def test_reading_a_missing_model_is_refused(tmp_path):
    """The message says that there is no model."""
    write_checkpoint(tmp_path / "a", {"optimizer": {}})

    with pytest.raises(CheckpointError, match="there is no model"):
        read_model(tmp_path / "a")


HOSTILE = {
    "a view beyond the end": {"$tensor": {**VIEW, "shape": [1 << 40]}},
    "a view before the start": {"$tensor": {**VIEW, "offset": -1}},
    "a view with a huge step": {"$tensor": {**VIEW, "stride": [1 << 40]}},
    "a view with a negative step": {"$tensor": {**VIEW, "stride": [-1], "offset": 3}},
    "a view of larger elements": {"$tensor": {**VIEW, "dtype": "float64", "shape": [4]}},
    "a view with other numbers of sizes and strides": {"$tensor": {**VIEW, "shape": [2, 2]}},
    "an unknown dtype": {"$tensor": {**VIEW, "dtype": "object"}},
    "an unknown file": {"$tensor": {"file": "../etc/passwd", "key": "w"}},
    "an unknown key": {"$tensor": {"file": "model", "key": "x"}},
    "a reference that is a list": {"$tensor": [1]},
    "an array of objects": {"$array": {"dtype": "O", "shape": [1], "bytes": W}},
    "an array of records": {"$array": {"dtype": "f4,f4", "shape": [1], "bytes": W}},
    "an array larger than its bytes": {"$array": {"dtype": "<f4", "shape": [1 << 40], "bytes": W}},
    "an unknown tag": {"$pickle": "gASV"},
    "two tags": {"$tuple": [], "$list": []},
    "a dtype that is a function": {"$dtype": "load"},
    "a device that is none": {"$device": "toaster"},
    "a float that is none": {"$float": "1.0"},
    "a dict as a key": {"$dict": [[{}, 1]]},
    "a pair of three": {"$dict": [[1, 2, 3]]},
    "a set of lists": {"$set": [[1]]},
    "a negative deque": {"$deque": {"items": [], "maxlen": -1}},
    "bytes that are none": {"$bytes": "%%"},
}


@pytest.mark.parametrize("node", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tree_is_refused(damaged, node):
    """With one clear error."""
    reseal(damaged, state_json={"tree": {"model": node}})

    with pytest.raises(CheckpointError, match=r"state.json: the state cannot be read"):
        read_checkpoint(damaged)


@pytest.mark.parametrize("strides", [[1 << 40], [-1], [1, 1], [2], "x", [None]])
def test_hostile_strides_allocate_no_memory(damaged, strides):
    """Strides with gaps or overlaps are refused."""
    reseal(damaged, state_json={"tree": {"w": {"$tensor": W}}, "strides": {"model": {"w": strides}}})

    with pytest.raises(CheckpointError, match=r"model.safetensors: the tensors cannot be read"):
        read_checkpoint(damaged)


@pytest.mark.slow
def test_reading_uses_no_pickle(saved):
    """It works with the pickle module disabled."""
    code = f"""
import pickle
pickle.loads = pickle.load = pickle.Unpickler = None
from pathlib import Path
from dovetail.checkpoint.format import read_checkpoint
read_checkpoint(Path({str(saved)!r}))
"""

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_checkpoints_are_never_overwritten(saved):
    """An existing checkpoint stays."""
    with pytest.raises(StorageError, match="something with this name already exists"):
        write_checkpoint(saved, {"model": {}})
    assert read_checkpoint(saved)["optimizer"]["lr"] == 0.1


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "rename"])
def test_a_failed_write_leaves_no_partial_checkpoint(tmp_path, monkeypatch, name):
    """Reliability 2: the first, second … call fails, with a StorageError and no folder or a complete one."""
    real = getattr(os, name)
    for nth in range(1, 40):
        left = nth

        def call(*args, _real=real, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return _real(*args, **kwargs)

        path = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                write_checkpoint(path, {"model": {"w": torch.zeros(3)}})
            except StorageError as error:
                message = str(error)
            else:
                break
        assert str(path) in message
        if path.exists():  # only the last flush may fail after the rename
            assert name == "fsync"
            assert read_checkpoint(path)["model"]["w"].tolist() == [0, 0, 0]
    else:
        pytest.fail("write_checkpoint failed every time")
    assert nth > 1
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_full_disk_shows_needed_and_free_bytes(tmp_path):
    """Reliability 3: an earlier checkpoint stays."""
    with small_disk(tmp_path, "1m") as disk:
        write_checkpoint(disk / "first", {"model": {"w": torch.zeros(10)}})
        with pytest.raises(
            StorageError,
            match=r"second: cannot write this: there is no space left on the disk: 4 MB needed, [\d.]+ [kM]B free",
        ):
            write_checkpoint(disk / "second", {"model": {"w": torch.zeros(1_000_000)}})
        assert [path.name for path in disk.iterdir()] == ["first"]
        read_checkpoint(disk / "first")
