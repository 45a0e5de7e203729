"""Transforms of batches, with one defect each."""

from __future__ import annotations

import torch


class DrawsAStream:
    """Draws from torch's global generator."""

    def transform_batch(self, batch, draws):
        """Add noise."""
        return {**batch, "inputs": batch["inputs"] + torch.randn_like(batch["inputs"])}


class TakesTheMean:
    """Subtracts the mean of the batch."""

    def transform_batch(self, batch, draws):
        """Subtract the mean."""
        return {**batch, "inputs": batch["inputs"] - batch["inputs"].mean()}


class InPlace:
    """Changes its batch in place."""

    def transform_batch(self, batch, draws):
        """Double the inputs."""
        batch["inputs"] *= 2
        return batch


class Jitters:
    """Draws random numbers but claims to be deterministic."""

    def transform_batch(self, batch, draws):
        """Scale each sample."""
        scale = draws.uniform("scale").reshape(-1, *(1,) * (batch["inputs"].ndim - 1))
        return {**batch, "inputs": batch["inputs"] * scale}
