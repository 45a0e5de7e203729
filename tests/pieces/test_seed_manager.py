"""The seeds of a loop of your own."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from dovetail.pieces import SeedManager


class Draws(Dataset):
    """Samples that Python's and NumPy's global generators draw in a worker."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return random.random(), np.random.random()  # noqa: S311, NPY002 (the global generators are under test)


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_repeat_their_order(workers):
    """Two loaders with the same options give the same shuffled batches, regardless of draws in between."""
    seeds = SeedManager(7)
    data = TensorDataset(torch.arange(12))
    orders = []
    for _ in range(2):
        torch.rand(5)
        loader = DataLoader(data, batch_size=3, shuffle=True, num_workers=workers, **seeds.loader_options())
        orders.append([batch[0].tolist() for batch in loader])

    assert orders[0] == orders[1] != [list(range(start, start + 3)) for start in range(0, 12, 3)]


def test_workers_repeat_their_draws():
    """Each worker seeds Python and NumPy from the loader's generator, so two loaders draw the same numbers."""
    seeds = SeedManager(7)

    draws = [torch.stack(list(sample)) for sample in zip(*map(_drawn, [seeds, seeds]), strict=True)]

    assert all(torch.equal(first, second) for first, second in draws)
    assert len({float(first[0]) for first, _ in draws}) == len(draws)


def _drawn(seeds: SeedManager) -> list[torch.Tensor]:
    loader = DataLoader(Draws(), batch_size=None, num_workers=2, **seeds.loader_options())
    return [torch.tensor(sample) for sample in loader]


def test_states_and_seeds_repeat_draws():
    """Loading a state, setting the seed and a new manager all bring back the draws of all three generators."""
    seeds = SeedManager(7)
    state = seeds.state_dict()
    first = _global_draws()

    again = []
    for restore in (lambda: seeds.load_state_dict(state), seeds.set, lambda: SeedManager(7)):
        restore()
        again.append(_global_draws())

    assert again == [first] * 3
    SeedManager(8)
    assert _global_draws() != first


def _global_draws() -> tuple[float, float, float]:
    return random.random(), np.random.random(), float(torch.rand(()))  # noqa: S311, NPY002 (as above)
