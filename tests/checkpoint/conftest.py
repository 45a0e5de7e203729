"""Fixtures of the tests of checkpoints."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import distributed

from dovetail.checkpoint.format import write_checkpoint


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Return the path of a small checkpoint; do not change it."""
    path = tmp_path_factory.mktemp("saved") / "step"
    state = {"model": {"w": torch.arange(6.0)}, "optimizer": {"state": {0: {"m": torch.ones(3)}}, "lr": 0.1}}
    write_checkpoint(path, state, {"step": 12, "metrics": {"val_loss": math.nan, "val_accuracy": 0.5}})
    return path


@pytest.fixture
def damaged(saved, tmp_path):
    """Return a copy of the small checkpoint to damage."""
    return Path(shutil.copytree(saved, tmp_path / "step"))


@pytest.fixture
def mesh():
    """Return a device mesh of one process, over which tensors can be sharded."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield distributed.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()
