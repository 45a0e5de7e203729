"""A small transformer and the logits of any model, for tests of models."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dovetail.models import ModelOutput

#: Options of a transformer that is built in no time.
SMALL: dict[str, Any] = {
    "vocab_size": 11,
    "d_model": 16,
    "num_layers": 2,
    "num_heads": 4,
    "d_ff": 32,
    "max_seq_len": 8,
    "dropout": 0.0,
}


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits that a loss would read."""
    return ModelOutput.from_raw(model(inputs)).logits
