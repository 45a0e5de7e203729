"""From the address of a batch to the batch: reading, transforming, collating, and transforming the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast, final

import torch
from attrs import field, frozen
from torch.utils.data import get_worker_info

from dovetail.data.batch import Batch
from dovetail.data.collators import DefaultCollator
from dovetail.data.sampler import Address
from dovetail.data.seeding import preserve_rngs, seed_global_rngs
from dovetail.data.transfer import to_device
from dovetail.random import Draws


@final
@frozen
class Fetcher:
    """Returns the batch at an address; the same object works in this process and in workers.

    A dataset, transform or collator with ``deterministic = True`` draws no random numbers. Around any other, the global
    generators are seeded: for each sample with (seed, epoch, index), for a collator with (seed, epoch, first index).
    """

    dataset: Any
    transforms: tuple[Callable[[Any], Any], ...]
    collator: Callable[[list[Any]], Batch]
    seed: int
    _seeds_samples: bool = field(init=False)
    _seeds_batches: bool = field(init=False)
    #: The dataset's own method for whole batches, if its result is the same.
    _get_batch: Callable[[Any], Batch] | None = field(init=False)

    @_seeds_samples.default
    def _any_sample_is_random(self) -> bool:
        return not all(is_deterministic(part) for part in (self.dataset, *self.transforms))

    @_seeds_batches.default
    def _collator_is_random(self) -> bool:
        return not is_deterministic(self.collator)

    @_get_batch.default
    def _find_get_batch(self) -> Callable[[Any], Batch] | None:
        plain = not self.transforms and not self._seeds_samples and type(self.collator) is DefaultCollator
        return cast("Callable[[Any], Batch] | None", getattr(self.dataset, "get_batch", None)) if plain else None

    def __call__(self, address: Address) -> Batch:
        """Return the batch at ``address``; the global generators of this process keep their state."""
        epoch, indices = address
        if self._get_batch is not None:
            return self._get_batch(indices)
        random = self._seeds_samples or self._seeds_batches
        with preserve_rngs() if random and get_worker_info() is None else nullcontext():
            samples = [self._sample(epoch, int(index)) for index in indices]
            if self._seeds_batches:
                seed_global_rngs(self.seed, "batch", epoch, int(indices[0]))
            return self.collator(samples)

    def _sample(self, epoch: int, index: int) -> Any:
        if self._seeds_samples:
            seed_global_rngs(self.seed, "sample", epoch, index)
        sample = self.dataset[index]
        for transform in self.transforms:
            sample = transform(sample)
        return sample


def is_deterministic(part: Any) -> bool:
    """Return whether a dataset, transform or collator says that it draws no random numbers."""
    return bool(getattr(part, "deterministic", False))


@final
@frozen
class BatchTransforms:
    """Applies the transforms of whole batches, in the process that trains and on the model's device."""

    transforms: tuple[Any, ...]
    seed: int
    device: torch.device | None

    def __call__(self, batch: Batch, address: Address) -> Batch:
        """Return the batch at ``address``, moved and transformed."""
        epoch, indices = address
        rows = torch.from_numpy(indices)
        if self.device is not None:
            batch = to_device(batch, self.device)
            rows = rows.to(self.device, non_blocking=True)
        for number, transform in enumerate(self.transforms):
            batch = transform.transform_batch(batch, Draws(self.seed, epoch, rows, f"transform {number}"))
        return batch


def transforms_batches(transform: Any) -> bool:
    """Return whether a transform takes whole batches."""
    return hasattr(transform, "transform_batch")
