"""Presets: a language model with everything that trains it, as a starting point from Python.

A preset is the profile of its name over a causal transformer, its loss and the documented learning rate. The data are a
text file of one's own: ``Config.preset("baseline").with_data("characters", path="shakespeare.txt")``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dovetail.config import profiles

#: GPT-2's number of tokens: 124 million parameters with the transformer's own defaults.
VOCAB_SIZE: Final = 50_257
#: With that vocabulary, 12 million parameters.
SMALL: Final[Mapping[str, Any]] = {"d_model": 192, "num_layers": 6, "num_heads": 6, "d_ff": 768, "max_seq_len": 128}
LARGE: Final[Mapping[str, Any]] = {"d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 3072, "max_seq_len": 512}

_PRESETS: Final[Mapping[str, tuple[Mapping[str, Any], Callable[[], profiles.Layer]]]] = {
    "quick_prototype": (SMALL, profiles.quick_prototype),
    "baseline": (LARGE, profiles.baseline),
    "production": (LARGE, profiles.production),
    "distributed": (LARGE, profiles.distributed),
    "low_memory": (LARGE, profiles.low_memory),
}


def preset_names() -> list[str]:
    """Return the names of the presets."""
    return list(_PRESETS)


def preset(name: str) -> list[profiles.Layer]:
    """Return the layers of a preset, weakest first: what is trained, then how."""
    sizes, profile = _PRESETS[name]
    return [
        {
            "run": {"name": name},
            "data": {"type": "characters", "path": "input.txt"},
            "loader": {"batch_size": 4},
            "model": {"type": "transformer", "vocab_size": VOCAB_SIZE, **sizes},
            "loss": {
                "type": "language_modeling",
                "shift": False,
            },  # the dataset's targets are the next characters already
            "optimizer": {"type": "adamw", "lr": 5e-5, "weight_decay": 0.01},
            "scheduler": {"type": "warmup_cosine", "warmup": 0.1},
        },
        profile(),
    ]
