"""Seeds for a loop of one's own: one object that sets, saves and puts back every generator."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dovetail.train.seeds import rng_state, set_random_seed, set_rng_state


class SeedManager:
    """Seeds Python, NumPy, torch on every device, and the workers of a ``DataLoader``.

    A run needs none: it seeds itself from ``run.seed``. For a loader of your own::

        seeds = SeedManager(42)
        loader = DataLoader(dataset, shuffle=True, num_workers=2, **seeds.loader_options())

    Args:
        seed: 0 to 2⁶⁴ − 1.
        deterministic: insist on algorithms that give the same bits each time, also where they are slower.

    Raises:
        ValueError: the seed is out of range.
    """

    def __init__(self, seed: int = 42, deterministic: bool = False) -> None:  # noqa: FBT001, FBT002 (the field's own)
        self.seed, self.deterministic = seed, deterministic
        self.set()

    def set(self) -> None:
        """Seed everything, as when it was made."""
        set_random_seed(self.seed, self.deterministic)

    def loader_options(self) -> dict[str, Any]:
        """Return ``generator`` and ``worker_init_fn`` for a torch ``DataLoader``.

        Its order comes from a generator of its own, so that it does not depend on what the model draws.
        """
        return {"generator": torch.Generator().manual_seed(self.seed % (1 << 63)), "worker_init_fn": seed_worker}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every global generator."""
        return rng_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put every global generator back."""
        set_rng_state(state)


def seed_worker(worker: int) -> None:  # noqa: ARG001 (the number is in torch's seed already)
    """Seed Python and NumPy in a worker of a ``DataLoader``; torch has seeded itself, from the loader's generator."""
    seed = torch.initial_seed() % (1 << 32)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the global generator is what is being seeded)
