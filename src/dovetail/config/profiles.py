"""Profiles: how a run is made, whatever it trains. Chosen with ``--profile NAME``, laid over the run file.

They say nothing of model, loss or learning rate; :mod:`dovetail.config.presets` adds those. A profile of one's own is a
``[profile.NAME]`` table in a run file, or a function like these that a plugin registers with ``dovetail_profiles``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dovetail.kernel.plugins import Registered
    from dovetail.spec.plugins import Plugins

Layer = dict[str, Any]


def installed_profiles(plugins: Plugins) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """Return how to make each installed profile, by its qualified name; nothing is imported yet."""
    return {one.qualified: partial(_make, one) for one in plugins.components("profile")}


def _make(registered: Registered) -> Mapping[str, Any]:
    layer: Mapping[str, Any] = registered.component.load()()
    return layer


def defaults() -> Layer:
    """Take Dovetail's own settings wherever the run file does not say otherwise: its empty layer changes nothing."""
    return {}


def kaggle_safe() -> Layer:
    """Stay within a Kaggle session: nine hours less a margin, 16 GB on the GPU, a checkpoint every half hour."""
    return {
        "loader": {"num_workers": 2},
        "checkpoint": {"every": {"minutes": 30}, "keep_best": 1, "keep_last": 2},
        "budget": {"wall_clock": "8h45m", "gpu_memory": "16GB"},
    }


def ci_fast() -> Layer:
    """Try whether a run works at all: at most 256 samples of each split, 20 updates, five minutes."""
    return {
        "data": {"split": {"limit": 256}},
        "loader": {"num_workers": 0},
        "training": {"max_epochs": 1, "max_steps": 20},
        "checkpoint": {"keep_best": 1, "keep_last": 1},
        "logging": {"every": 5},
        "budget": {"wall_clock": "5m"},
    }


def quick_prototype() -> Layer:
    """Try an idea: three epochs."""
    return {"training": {"max_epochs": 3}, "checkpoint": {"keep_best": 1, "keep_last": 1}}


def baseline() -> Layer:
    """Make the run that others are measured against: ten epochs."""
    return {"training": {"max_epochs": 10}}


def production() -> Layer:
    """Train for use: twenty epochs, the three best and the five last checkpoints kept."""
    return {"training": {"max_epochs": 20}, "checkpoint": {"every": 1, "keep_best": 3, "keep_last": 5}}


def distributed() -> Layer:
    """Train on four devices with DistributedDataParallel; ``hardware.strategy = "fsdp"`` shards the model instead."""
    return {"hardware": {"devices": 4, "strategy": "ddp"}}


def low_memory() -> Layer:
    """Fit into little memory: batches of two, eight of them to an update."""
    return {"loader": {"batch_size": 2}, "training": {"accumulate": 8}}
