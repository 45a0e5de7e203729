"""Profiles and presets that come with Dovetail.

A profile sets how a run goes, whatever it trains. ``--profile NAME`` lays it over the run file. It sets neither model,
loss nor learning rate. A profile of your own is a ``[profile.NAME]`` table in a run file, or a function like these that
a plugin registers with ``dovetail_profiles``.

A preset is a starting point from Python: the profile of its name over a causal transformer, its loss and the documented
learning rate. Its data are a text file of yours:
``Config.preset("baseline").with_data("characters", path="shakespeare.txt")``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Layer = dict[str, Any]


def defaults() -> Layer:
    """Keep Dovetail's own settings wherever the run file has none: an empty layer, which changes nothing."""
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
    """Train the baseline that other runs are compared with: ten epochs."""
    return {"training": {"max_epochs": 10}}


def production() -> Layer:
    """Train for production: twenty epochs, the three best and the five last checkpoints kept."""
    return {"training": {"max_epochs": 20}, "checkpoint": {"every": 1, "keep_best": 3, "keep_last": 5}}


def distributed() -> Layer:
    """Train on four devices with DistributedDataParallel; ``hardware.strategy = "fsdp"`` shards the model instead."""
    return {"hardware": {"devices": 4, "strategy": "ddp"}}


def low_memory() -> Layer:
    """Fit into little memory: batches of two samples, eight batches per update."""
    return {"loader": {"batch_size": 2}, "training": {"accumulate": 8}}


# --- presets ----------------------------------------------------------------------------------------------------

#: The size of GPT-2's vocabulary: 124 million parameters with the transformer's own defaults.
VOCAB_SIZE: Final = 50_257
#: With that vocabulary, 12 million parameters.
SMALL: Final[Mapping[str, Any]] = {"d_model": 192, "num_layers": 6, "num_heads": 6, "d_ff": 768, "max_seq_len": 128}
LARGE: Final[Mapping[str, Any]] = {"d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 3072, "max_seq_len": 512}

_PRESETS: Final[Mapping[str, tuple[Mapping[str, Any], Callable[[], Layer]]]] = {
    "quick_prototype": (SMALL, quick_prototype),
    "baseline": (LARGE, baseline),
    "production": (LARGE, production),
    "distributed": (LARGE, distributed),
    "low_memory": (LARGE, low_memory),
}


def preset_names() -> list[str]:
    """Return the names of the presets."""
    return list(_PRESETS)


def preset(name: str) -> list[Layer]:
    """Return the layers of a preset, weakest first: what is trained, then how."""
    sizes, profile = _PRESETS[name]
    return [
        {
            "run": {"name": name},
            "data": {"type": "characters", "path": "input.txt"},
            "loader": {"batch_size": 4},
            "model": {"type": "transformer", "vocab_size": VOCAB_SIZE, **sizes},
            "loss": {"type": "language_modeling", "shift": False},  # the dataset's targets are already shifted
            "optimizer": {"type": "adamw", "lr": 5e-5, "weight_decay": 0.01},
            "scheduler": {"type": "warmup_cosine", "warmup": 0.1},
        },
        profile(),
    ]
