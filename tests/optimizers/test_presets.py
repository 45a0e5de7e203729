"""Tests of the presets: their documented values, which options can override."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from dovetail.optimizers import presets

PRESETS = ["default", "fast_convergence", "strong_regularization", "sgd_baseline"]


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a model with a norm layer whose parameter names do not contain "norm"."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("default", AdamW, {"lr": 1e-3, "weight_decay": 1e-4, "betas": (0.9, 0.999)}),
        ("fast_convergence", AdamW, {"lr": 3e-3, "weight_decay": 1e-4, "betas": (0.9, 0.999)}),
        ("strong_regularization", AdamW, {"lr": 1e-3, "weight_decay": 1e-3, "betas": (0.9, 0.999)}),
        ("sgd_baseline", SGD, {"lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}),
    ],
)
def test_presets_keep_their_values(name: str, kind: type, expected: dict[str, Any]) -> None:
    """The optimizer has the documented values."""
    built = getattr(presets, name)(model().parameters())

    assert type(built) is kind
    assert {key: built.param_groups[0][key] for key in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_an_option_overrides_a_preset(name: str) -> None:
    """The other values stay."""
    assert getattr(presets, name)(model().parameters(), lr=0.5).param_groups[0]["lr"] == 0.5
