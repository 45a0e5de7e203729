"""Datasets that test loaders: plain, random, readable in whole batches."""

from __future__ import annotations

import random
import time

import numpy as np
import torch

from dovetail.data.batch import Batch
from dovetail.data.collators import DefaultCollator
from dovetail.data.loader import Loader, make_loader
from dovetail.data.samples import TensorSamples
from dovetail.data.transforms import GaussianNoise


class Plain:
    """A dataset of (input, target) tuples without any optional attribute."""

    def __init__(self, length: int = 20) -> None:
        self.length = length
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read.append(index)
        return torch.full((3,), float(index)), index


class Whole(Plain):
    """A dataset that can be read a batch at a time; negative entries of ``read`` are whole batches."""

    deterministic = True

    def get_batch(self, indices: np.ndarray) -> Batch:
        """Return a batch, and note that it was asked for."""
        batch = DefaultCollator()([self[int(index)] for index in indices])
        self.read[-len(indices) :] = [-len(indices)]
        return batch


def draw() -> torch.Tensor:
    """Draw from all three global generators, as third-party code does."""
    return torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])  # noqa: NPY002, S311 (they are meant)


class Random(Plain):
    """A dataset that draws from all three global generators."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return draw(), index


def noisy(sample: tuple[torch.Tensor, int]) -> tuple[torch.Tensor, int]:
    """Add random numbers to a sample."""
    return sample[0] + draw(), sample[1]


class RandomCollator:
    """A collator that draws random numbers."""

    def __call__(self, samples: list) -> Batch:
        """Scale a batch by a random number."""
        batch = DefaultCollator()(samples)
        return Batch(inputs=batch["inputs"] * torch.rand(()), targets=batch["targets"])


def tensor_samples(length: int = 20) -> TensorSamples:
    """Return samples in memory, with one meta column."""
    inputs = torch.arange(float(length))[:, None]
    return TensorSamples(inputs, torch.arange(length) % 2, ("a", "b"), "digest", {"rpm": np.arange(length)}, ("rpm",))


def read(loader: Loader, epoch: int = 0, start_batch: int = 0) -> list[Batch]:
    """Return the batches of an epoch."""
    return list(loader.batches(epoch, start_batch))


def same(first: list[Batch], second: list[Batch]) -> bool:
    """Return whether two lists of batches are equal to the last bit."""
    return len(first) == len(second) and all(
        torch.equal(batch["inputs"], other["inputs"]) and torch.equal(batch["targets"], other["targets"])
        for batch, other in zip(first, second, strict=True)
    )


def numbers(batches: list[Batch]) -> list[int]:
    """Return the targets of batches, which in Plain are the samples' indices."""
    return [int(target) for batch in batches for target in batch["targets"]]


def global_state() -> tuple:
    """Return the state of every global generator."""
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002 (it is meant)


RANDOM = {
    "dataset": lambda **others: make_loader(Random(), batch_size=6, shuffle=True, seed=5, **others),
    "transform": lambda **others: make_loader(
        Plain(), batch_size=6, shuffle=True, seed=5, transforms=[noisy, GaussianNoise(std=0.5)], **others
    ),
    "collator": lambda **others: make_loader(Plain(), RandomCollator(), batch_size=6, shuffle=True, seed=5, **others),
}


class Slow(Plain):
    """A dataset that takes 50 ms per sample."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.05)
        return super().__getitem__(index)
