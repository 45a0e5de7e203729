"""From a split to batches: reading, transforming and collating, in this process or in workers, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, cast, final

import torch
from attrs import define, field, frozen
from torch.utils.data import DataLoader, get_worker_info

from dovetail.data.batch import Batch, map_tensors
from dovetail.data.collators import DefaultCollator
from dovetail.data.sampler import Address, AddressedSampler
from dovetail.data.samples import Indices
from dovetail.data.seeding import KeptGlobals, seed_globals
from dovetail.data.transfer import to_device
from dovetail.data.workers import InWorker, begin_worker, received
from dovetail.random import Draws


@final
@frozen
class Fetcher:
    """Makes the batch of an address; the same object works in this process and in workers.

    Whatever says ``deterministic = True`` (dataset, transform, collator) draws no random numbers. Around the others
    the global generators are seeded: for each sample with (seed, epoch, index), for a collator with (seed, epoch,
    first index).
    """

    dataset: Any
    transforms: tuple[Callable[[Any], Any], ...]
    collator: Callable[[list[Any]], Batch]
    seed: int
    _sampling: bool = field(init=False)
    _collating: bool = field(init=False)
    _whole: Callable[[Any], Batch] | None = field(init=False)

    @_sampling.default
    def _draws_per_sample(self) -> bool:
        return not all(_deterministic(part) for part in (self.dataset, *self.transforms))

    @_collating.default
    def _draws_per_batch(self) -> bool:
        return not _deterministic(self.collator)

    @_whole.default
    def _reads_whole_batches(self) -> Callable[[Any], Batch] | None:
        plain = not self.transforms and not self._sampling and isinstance(self.collator, DefaultCollator)
        return cast("Callable[[Any], Batch] | None", getattr(self.dataset, "get_batch", None)) if plain else None

    def __call__(self, address: Address) -> Batch:
        """Return the batch at ``address``, leaving the global generators of this process alone."""
        epoch, indices = address
        if self._whole is not None:
            return self._whole(indices)
        draws = self._sampling or self._collating
        with KeptGlobals() if draws and get_worker_info() is None else nullcontext():
            samples = [self._sample(epoch, int(index)) for index in indices]
            if self._collating:
                seed_globals(self.seed, "batch", epoch, int(indices[0]))
            return self.collator(samples)

    def _sample(self, epoch: int, index: int) -> Any:
        if self._sampling:
            seed_globals(self.seed, "sample", epoch, index)
        sample = self.dataset[index]
        for transform in self.transforms:
            sample = transform(sample)
        return sample


def _deterministic(part: Any) -> bool:
    return bool(getattr(part, "deterministic", False))


def _as_it_is(batch: Any) -> Any:
    return batch


@final
@define
class _Requests:
    """The batch sampler of the workers' ``DataLoader``: what the iteration that begins next asks of them.

    It does not know the loader: were there a cycle, the garbage collector would close the workers' queues before they
    could be told to stop, and each would be waited for in vain, for five seconds.
    """

    sampler: AddressedSampler
    epoch: int = 0
    start_batch: int = 0

    def __iter__(self) -> Iterator[Address]:
        return self.sampler.batches(self.epoch, self.start_batch)

    def __len__(self) -> int:
        return len(self.sampler)


@final
@frozen
class _OnDevice:
    """Applies the transforms of whole batches, where the model is and in the process that trains."""

    transforms: tuple[Any, ...]
    seed: int
    device: torch.device | None

    def __call__(self, batch: Batch, address: Address) -> Batch:
        epoch, indices = address
        rows = torch.from_numpy(indices)
        if self.device is not None:
            batch = to_device(batch, self.device)
            rows = rows.to(self.device, non_blocking=True)
        for number, transform in enumerate(self.transforms):
            batch = transform.transform_batch(batch, Draws(self.seed, epoch, rows, f"transform {number}"))
        return batch


@final
class Loader:
    """Batches of one split; iterating gives those of the current epoch. :func:`make_loader` makes one."""

    def __init__(
        self,
        fetch: Fetcher,
        sampler: AddressedSampler,
        *,
        num_workers: int,
        pin_memory: bool,
        on_device: Callable[[Batch, Address], Batch] | None = None,
    ) -> None:
        self.dataset = fetch.dataset
        self.sampler = sampler
        self.epoch = 0
        self._fetch = fetch
        self._on_device = on_device
        self._pin_memory = pin_memory
        self._requests = _Requests(sampler)
        self._workers: DataLoader[Any] | None = None
        if num_workers:
            self._workers = DataLoader(
                cast("Any", InWorker(fetch)),
                batch_sampler=cast("Any", self._requests),
                num_workers=num_workers,
                collate_fn=_as_it_is,
                worker_init_fn=begin_worker,
                pin_memory=pin_memory,
                persistent_workers=True,
                # Without one of its own, iter() would draw a seed from the global generator and so shift dropout.
                generator=torch.Generator().manual_seed(fetch.seed & (2**63 - 1)),
            )

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.sampler)

    @property
    def batch_size(self) -> int:
        """Number of samples in a full batch."""
        return self.sampler.batch_size

    @property
    def num_samples(self) -> int:
        """Number of samples that an epoch uses."""
        return self.sampler.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and random numbers the next iteration uses."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.epoch)

    def indices(self, epoch: int, number: int) -> Indices:
        """Return which samples make up batch ``number``, from 0, of ``epoch``."""
        return self.sampler.indices(epoch, number)

    def over(self, dataset: Any) -> Loader:
        """Return a loader of another dataset, in its own order, that transforms and collates as this one does."""
        fetch = Fetcher(dataset, self._fetch.transforms, self._fetch.collator, self._fetch.seed)
        sampler = AddressedSampler(len(dataset), self.batch_size, seed=self._fetch.seed)
        return Loader(fetch, sampler, num_workers=0, pin_memory=False, on_device=self._on_device)

    def reread(self, epoch: int, indices: Indices, *, whole: bool = True) -> Batch:
        """Return the samples at ``indices`` as ``epoch`` has them, in one batch, read in this process.

        Args:
            epoch: whose random numbers transforms draw.
            indices: of samples of the dataset.
            whole: apply the transforms of whole batches too; without them every row is of one sample alone.
        """
        batch = self._fetch((epoch, indices))
        return self._on_device(batch, (epoch, indices)) if whole and self._on_device is not None else batch

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Return the batches of ``epoch`` from number ``start_batch`` on; those before it are not read.

        Raises:
            ValueError: the epoch has no such batch.
            DataError: while iterating: a sample cannot be read or collated.
            LoaderWorkerError: while iterating: a worker process died.
        """
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"start_batch must be between 0 and {len(self)}, got {start_batch}")
        found = self._read(epoch, start_batch)
        if self._on_device is None:
            return found
        return map(self._on_device, found, self.sampler.batches(epoch, start_batch))

    def _read(self, epoch: int, start_batch: int) -> Iterator[Batch]:
        if self._workers is None:
            # Not map(): a StopIteration of somebody's dataset would end the epoch, and nobody would hear of it.
            found = (self._fetch(one) for one in self.sampler.batches(epoch, start_batch))
            return map(_pinned, found) if self._pin_memory else found
        self._requests.epoch, self._requests.start_batch = epoch, start_batch
        return received(self._workers)


def _pinned(batch: Batch) -> Batch:
    return map_tensors(batch, lambda tensor: tensor.pin_memory())


def make_loader(
    dataset: Any,
    collator: Callable[[list[Any]], Batch] | None = None,
    *,
    batch_size: int = 32,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool | None = None,
    drop_last: bool = False,
    transforms: Sequence[Any] = (),
    device: torch.device | None = None,
    rank: int = 0,
    ranks: int = 1,
    whole_batches: bool = False,
) -> Loader:
    """Return a loader over ``dataset``.

    The batches of an epoch depend on the arguments and on the epoch only: not on the number of workers, not on the
    batches that were read before, not on the global random generators, which are left as they were.

    Args:
        dataset: a map-style dataset. Where it has ``get_batch(indices) -> Batch`` and says ``deterministic = True``,
            and nothing stands between it and the batch, whole batches are read at once.
        collator: makes a batch of a list of samples; None stacks them (:class:`DefaultCollator`).
        batch_size: samples in a batch, at least 1.
        shuffle: a new order each epoch, which depends only on ``seed`` and the epoch.
        seed: also draws the numbers of random transforms.
        num_workers: processes that read ahead; 0 reads in this process. They live as long as the loader.
        pin_memory: put batches in page-locked memory, from which copies to a GPU run in the background; None does so
            where there is a GPU.
        drop_last: leave out a last batch that is not full.
        transforms: applied in this order: to each sample those that are called with one, then to each batch those that
            have ``transform_batch(batch, draws)``.
        device: where transforms of batches work; None leaves batches where they are.
        rank: which of the processes this is that share the samples, from 0.
        ranks: how many there are. ``batch_size`` is that of each.
        whole_batches: the processes take turns with batches, as for an evaluation, rather than split each
            (:class:`~dovetail.data.sampler.AddressedSampler`).

    Raises:
        ValueError: the batch size is below 1, the number of workers below 0, not one batch comes out, or a transform of
            samples comes after one of batches.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if num_workers < 0:
        raise ValueError(f"num_workers must be at least 0, got {num_workers}")
    sampler = AddressedSampler(len(dataset), batch_size, shuffle, seed, drop_last, rank, ranks, whole_batches)
    if sampler.num_samples == 0:
        raise ValueError(
            f"no batch comes out of {len(dataset)} samples with batch_size = {batch_size}"
            + (" and drop_last = true" if drop_last else "")
            + (f" for {ranks} processes" if ranks > 1 else "")
        )
    of_samples = tuple(one for one in transforms if not transforms_batches(one))
    of_batches = tuple(one for one in transforms if transforms_batches(one))
    if of_samples != tuple(transforms[: len(of_samples)]):
        late = type(of_samples[-1]).__name__
        raise ValueError(f"transforms of single samples come first, as batches are made of them: move {late} up")
    fetch = Fetcher(dataset, of_samples, collator or DefaultCollator(), seed)
    on_device = _OnDevice(of_batches, seed, device) if of_batches else None
    pinned = torch.cuda.is_available() if pin_memory is None else pin_memory
    return Loader(fetch, sampler, num_workers=num_workers, pin_memory=pinned, on_device=on_device)


def transforms_batches(transform: Any) -> bool:
    """Say whether a transform takes whole batches."""
    return hasattr(transform, "transform_batch")
