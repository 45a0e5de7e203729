"""The seed of a program: seeds, saves and restores every global random generator."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dovetail.train.seeds import rng_state, set_random_seed, set_rng_state


class SeedManager:
    """Seeds Python, NumPy, torch on every device, and the workers of a ``DataLoader``.

    A run does this itself, from ``run.seed``. For a loader of your own::

        seeds = SeedManager(42)
        loader = DataLoader(dataset, shuffle=True, num_workers=2, **seeds.loader_options())

    Args:
        seed: 0 to 2⁶⁴ − 1.
        deterministic: use only deterministic algorithms, which may be slower.

    Raises:
        ValueError: the seed is out of range.
        TypeError: the seed is not an integer.
    """

    def __init__(
        self,
        seed: int = 42,
        deterministic: bool = False,  # noqa: FBT001, FBT002 (as set_random_seed)
    ) -> None:
        self.seed, self.deterministic = seed, deterministic
        self.set()

    def set(self) -> None:
        """Seed every generator again."""
        set_random_seed(self.seed, self.deterministic)

    def loader_options(self) -> dict[str, Any]:
        """Return ``generator`` and ``worker_init_fn`` for a torch ``DataLoader``.

        The generator belongs to the loader alone, so the order of samples does not depend on the model's draws.
        """
        return {"generator": torch.Generator().manual_seed(self.seed % (1 << 63)), "worker_init_fn": seed_worker}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every global generator."""
        return rng_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of every global generator."""
        set_rng_state(state)


def seed_worker(worker: int) -> None:  # noqa: ARG001 (the index is part of torch's seed already)
    """Seed Python and NumPy in a worker of a ``DataLoader``; torch seeds itself, from the loader's generator."""
    seed = torch.initial_seed() % (1 << 32)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (seeds the global generator)
