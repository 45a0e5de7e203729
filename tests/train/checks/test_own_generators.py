"""Generators that parts keep: an alert wherever they live, with advice that works."""

from __future__ import annotations

import functools
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from dovetail import check, run
from dovetail.data import Splits
from dovetail.data.collators import DefaultCollator
from dovetail.train.checks.own_generators import find_generators
from dovetail.train.trainer import StandardTrainer
from small_runs import blobs, only_run, small

SHARED = np.random.default_rng(0)


class Dataset:
    """Draws its samples from a generator of its own."""

    def __init__(self, size: int = 48) -> None:
        self.size, self.rng = size, np.random.default_rng(0)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.rng.normal(size=4).astype("float32")), torch.tensor(index % 3)


class Advised(Dataset):
    """The same as the alert advises."""

    def __getitem__(self, index: int) -> Any:
        return torch.randn(4), torch.tensor(index % 3)


class OnceOnly(Dataset):
    """Draws all its samples when it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = torch.from_numpy(self.rng.normal(size=(48, 4)).astype("float32"))

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index], torch.tensor(index % 3)


class Noise:
    """A transform with a generator, which it can save."""

    def __init__(self) -> None:
        self.rng = random.Random(0)  # noqa: S311 (no secret)

    def __call__(self, sample: Any) -> Any:
        """Return the sample with noise."""
        return sample[0] + self.rng.random(), sample[1]

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state."""
        return {"rng": json.dumps(self.rng.getstate())}

    def load_state_dict(self, state: Any) -> None:
        """Do nothing."""


def noise(sample: Any, generator: torch.Generator) -> Any:
    """Add noise from a generator."""
    return sample[0] + torch.rand(4, generator=generator), sample[1]


def shared(sample: Any) -> Any:
    """Add noise from a generator of the module."""
    return sample[0] + SHARED.random(), sample[1]


class Collator(DefaultCollator):
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.RandomState(0)

    def __call__(self, samples: list[Any]) -> Any:
        """Return a batch with noise."""
        batch = super().__call__(samples)
        batch["inputs"] = batch["inputs"] + self.rng.rand()
        return batch


WORKERS = {"loader": {"batch_size": 16, "num_workers": 2}}


@pytest.mark.parametrize(
    "sections, said",
    [
        ({"data": Splits(Dataset(), blobs(12))}, "data draws from a generator of its own, 'rng'"),
        ({"data": Splits(blobs(48), Dataset(12))}, "data draws from a generator of its own, 'rng'"),
        ({"data": Splits(Subset(Dataset(), range(40)), blobs(12))}, "data draws .*, 'dataset.rng'"),
        ({"transforms": {"own": Noise()}, **WORKERS}, "transforms.own draws .*, 'rng'"),
        ({"transforms": {"own": functools.partial(noise, generator=torch.Generator())}}, "transforms.own draws"),
        ({"transforms": {"own": shared}}, "transforms.own draws .*, 'SHARED'"),
        ({"collator": Collator()}, "collator draws .*, 'rng'"),
    ],
)
def test_generators_of_the_data_are_found_before_the_first_step(tmp_path: Path, sections: Any, said: str) -> None:
    """Wherever they live, in a dry run too."""
    found = check(small(tmp_path, **sections)).alerts

    assert len(found) == 1
    assert re.match(said, found[0])
    assert "Draw from torch.rand, numpy.random or random instead" in found[0]


@pytest.mark.parametrize(
    "sections",
    [
        {"data": Splits(Advised(), blobs(12)), **WORKERS},
        {"data": Splits(OnceOnly(), blobs(12)), **WORKERS},
        {"transforms": {"own": Noise()}},
        {},
    ],
)
def test_addressed_and_saved_ones_raise_no_alert(tmp_path: Path, sections: Any) -> None:
    """Nor does one that drew before the run; the advice of the alert works with workers."""
    assert check(small(tmp_path, **sections)).alerts == ()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_search_changes_nothing(tmp_path: Path, workers: int) -> None:
    """A run draws the numbers that it would have drawn."""
    sections = {"data": Splits(Dataset(), blobs(12)), "loader": {"batch_size": 16, "num_workers": workers}}
    outcome = run(small(tmp_path, **sections, training={"max_epochs": 1}, optimizer={"type": "sgd", "lr": 1e-9}))
    fresh = np.random.default_rng(0)

    assert outcome.check().status == "completed"
    if workers == 0:
        # The trial of one sample when the run is built draws once.
        fresh.normal(size=4)
        dataset = sections["data"].train
        for _ in range(48):
            fresh.normal(size=4)
        assert dataset.rng.normal() == fresh.normal()


class Environment(StandardTrainer):
    """A trainer with an environment that keeps its generator two attributes deep, as gymnasium's wrappers do."""

    def __init__(self) -> None:
        self.env = SimpleNamespace(unwrapped=SimpleNamespace(_np_random=np.random.default_rng(0)))


class Noisy(nn.Module):
    """A model with a generator that its ``state_dict`` does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.generator = torch.Generator()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits with noise."""
        logits: torch.Tensor = self.layer(inputs)
        return logits + torch.rand(3, generator=self.generator)


class SavedNoisy(Noisy):
    """The same as the alert advises."""

    def get_extra_state(self) -> torch.Tensor:
        """Return the generator's state."""
        return self.generator.get_state()

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore it."""
        self.generator.set_state(state)


@pytest.mark.parametrize(
    "sections, said",
    [
        (
            {"trainer": Environment()},
            "trainer keeps Generator 'env.unwrapped._np_random', .* Give Environment state_dict",
        ),
        ({"model": Noisy()}, "model keeps Generator 'generator', .* Give Noisy get_extra_state"),
        ({"model": SavedNoisy()}, None),
    ],
)
def test_generators_of_other_parts_are_found_at_any_depth(tmp_path: Path, sections: Any, said: str | None) -> None:
    """No checkpoint would hold them."""
    run(small(tmp_path, **sections, training={"max_epochs": 1})).check()
    path = only_run(tmp_path) / "alerts.jsonl"
    found = [json.loads(line)["message"] for line in path.read_text().splitlines()] if path.exists() else []

    assert len(found) == (said is not None)
    assert said is None or re.match(said, found[0])


def test_the_search_is_bounded() -> None:
    """Cycles and large containers end it; a generator behind thousands of objects is not looked for."""
    cycle: dict[str, Any] = {"many": list(range(10**6)), "rng": random.Random(1)}  # noqa: S311 (no secret)
    cycle["self"] = cycle

    assert [path for path, _ in find_generators(cycle)] == ["['rng']"]
