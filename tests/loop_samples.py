"""A small network and its batches, for tests of loops."""

from __future__ import annotations

import torch
from torch import nn


def network() -> nn.Sequential:
    """Return a small network with the same weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def pairs(count: int, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return ``count`` batches of ``size`` inputs and labels."""
    generator = torch.Generator().manual_seed(3)
    batches = [torch.randn(size, 4, generator=generator) for _ in range(count)]
    return [(inputs, inputs[:, :3].argmax(1)) for inputs in batches]
