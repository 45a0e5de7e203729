"""Configs of small runs, on data that a model learns in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dovetail.config.api import Config
from dovetail.config.schema import RunConfig
from dovetail.data import Splits
from dovetail.data.samples import TensorSamples

#: The settings of most small runs; :func:`small` merges its arguments into them.
BASE: Mapping[str, Any] = {
    "model": {"type": "mlp", "hidden_dims": [16]},
    "loss": {"type": "cross_entropy"},
    "optimizer": {"type": "adamw", "lr": 1e-2},
    "training": {"max_epochs": 2},
    "metrics": {"accuracy": {"type": "accuracy"}},
    "loader": {"batch_size": 16},
    "report": {"enabled": False},
    "hardware": {"device": "cpu", "threads": 1},
}


def blobs(samples: int, seed: int = 0) -> TensorSamples:
    """Return points of three well-separated classes in four dimensions."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(samples) % 3
    centres = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    inputs = centres[targets] + 0.5 * torch.randn(samples, 4, generator=generator)
    return TensorSamples(inputs, targets, ("a", "b", "c"), "blobs")


def three_blobs() -> Splits:
    """Return 100 samples to train on (a ragged last batch at size 16), 30 to validate and 30 to test."""
    return Splits(blobs(100), blobs(30, seed=1), blobs(30, seed=2))


def small(output: Path, *, data: Any = None, **sections: Any) -> RunConfig:
    """Return a checked config.

    Args:
        output: the folder of all runs.
        data: the dataset, an object or a table; :func:`three_blobs` by default.
        sections: merged into :data:`BASE`, table by table; parts may be objects.
    """
    config = Config.from_dict(dict(BASE)).with_parts(paths={"output": str(output)})
    parts = {"data": three_blobs() if data is None else data, **sections}
    return config.with_parts(**parts).build()


def only_run(output: Path, name: str = "run") -> Path:
    """Return the folder of the only run."""
    (folder,) = [path for path in (output / name).iterdir() if path.is_dir()]
    return folder
