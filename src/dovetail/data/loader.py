"""From a split to batches, read in this process or in workers with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast, final

import torch
from attrs import define
from torch.utils.data import DataLoader

from dovetail.data.batch import Batch, map_tensors
from dovetail.data.collators import DefaultCollator
from dovetail.data.fetcher import BatchTransforms, Fetcher, transforms_batches
from dovetail.data.sampler import Address, AddressedSampler
from dovetail.data.samples import Indices
from dovetail.data.workers import WorkerDataset, init_worker, worker_batches


def _identity(batch: Any) -> Any:
    return batch


@final
@define
class _EpochSampler:
    """The batch sampler of the workers' ``DataLoader``: the addresses of the next iteration.

    It holds no reference to the loader. With a reference cycle, the garbage collector could close the workers' queues
    before the workers are told to stop, and the process would wait five seconds for each of them.
    """

    sampler: AddressedSampler
    epoch: int = 0
    start_batch: int = 0

    def __iter__(self) -> Iterator[Address]:
        return self.sampler.batches(self.epoch, self.start_batch)


@final
class Loader:
    """The batches of one split; iterating yields those of the current epoch. :func:`make_loader` builds one."""

    def __init__(
        self,
        fetch: Fetcher,
        sampler: AddressedSampler,
        *,
        num_workers: int,
        pin_memory: bool,
        batch_transforms: BatchTransforms | None = None,
    ) -> None:
        self.dataset, self.collator = fetch.dataset, fetch.collator
        self.sampler = sampler
        self.epoch = 0
        self._fetch = fetch
        self._batch_transforms = batch_transforms
        self._pin_memory = pin_memory
        self._epoch_sampler = _EpochSampler(sampler)
        self._workers: DataLoader[Any] | None = None
        if num_workers:
            self._workers = DataLoader(
                cast("Any", WorkerDataset(fetch)),
                batch_sampler=cast("Any", self._epoch_sampler),
                num_workers=num_workers,
                collate_fn=_identity,
                worker_init_fn=init_worker,
                pin_memory=pin_memory,
                persistent_workers=True,
                # Without its own generator, iter() would draw a seed from the global one, and so change dropout.
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
        """Number of samples that all processes together use in an epoch."""
        return self.sampler.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration reads: its order and its random numbers."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.epoch)

    def indices(self, epoch: int, number: int) -> Indices:
        """Return the indices of the samples in batch ``number``, from 0, of ``epoch``."""
        return self.sampler.indices(epoch, number)

    def with_dataset(self, dataset: Any) -> Loader:
        """Return a loader of another dataset, in its own order, with this loader's transforms and collator."""
        fetch = Fetcher(dataset, self._fetch.transforms, self._fetch.collator, self._fetch.seed)
        sampler = AddressedSampler(len(dataset), self.batch_size, seed=self._fetch.seed)
        return Loader(fetch, sampler, num_workers=0, pin_memory=False, batch_transforms=self._batch_transforms)

    def reread(self, epoch: int, indices: Indices, *, whole: bool = True) -> Batch:
        """Return the samples at ``indices`` in one batch, as in ``epoch``, read in this process.

        Args:
            epoch: the epoch whose random numbers the transforms draw.
            indices: indices of samples of the dataset.
            whole: also apply the transforms of whole batches; without them, each row depends on its sample alone.
        """
        address = (epoch, indices)
        batch = self._fetch(address)
        return self._batch_transforms(batch, address) if whole and self._batch_transforms is not None else batch

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Return the batches of ``epoch``, starting at batch ``start_batch``; earlier batches are not read.

        Raises:
            ValueError: the epoch has no such batch.
            DataError: while iterating: a sample cannot be read or collated.
            LoaderWorkerError: while iterating: a worker process died.
        """
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"start_batch must be between 0 and {len(self)}, got {start_batch}")
        batches = self._read(epoch, start_batch)
        if self._batch_transforms is None:
            return batches
        return map(self._batch_transforms, batches, self.sampler.batches(epoch, start_batch))

    def _read(self, epoch: int, start_batch: int) -> Iterator[Batch]:
        if self._workers is None:
            # Not map(): a StopIteration from a user's dataset would silently end the epoch.
            batches = (self._fetch(address) for address in self.sampler.batches(epoch, start_batch))
            return map(_pin, batches) if self._pin_memory else batches
        self._epoch_sampler.epoch, self._epoch_sampler.start_batch = epoch, start_batch
        return worker_batches(self._workers)


def _pin(batch: Batch) -> Batch:
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
    world_size: int = 1,
    whole_batches: bool = False,
) -> Loader:
    """Return a loader over ``dataset``.

    The batches of an epoch depend only on the arguments and the epoch. They do not depend on the number of workers, on
    the batches read before, or on the global random generators, whose state the loader preserves.

    Args:
        dataset: a map-style dataset. If it has ``get_batch(indices) -> Batch`` and ``deterministic = True``, and there
            are neither transforms of samples nor a custom collator, the loader reads whole batches at once.
        collator: turns a list of samples into a batch; None stacks them (:class:`~dovetail.data.DefaultCollator`).
        batch_size: samples in a batch of one process, at least 1.
        shuffle: use a new order each epoch, which depends only on ``seed`` and the epoch.
        seed: seed of the order and of random transforms.
        num_workers: processes that read ahead; 0 reads in this process. They live as long as the loader.
        pin_memory: put batches in page-locked memory, from which copies to a GPU run in the background; by default if
            there is a GPU.
        drop_last: drop a last batch that is not full.
        transforms: applied in this order: transforms of samples, which are called with one sample, then transforms of
            batches, which have ``transform_batch(batch, draws)``.
        device: where transforms of batches run; None leaves batches where they are.
        rank: this process, from 0, among the processes that split the samples.
        world_size: the number of processes.
        whole_batches: the processes take turns with whole batches, as in an evaluation, instead of splitting each batch
            (:class:`~dovetail.data.sampler.AddressedSampler`).

    Raises:
        ValueError: the batch size is below 1, the number of workers below 0, an epoch would have no batch, or a
            transform of samples follows one of batches.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if num_workers < 0:
        raise ValueError(f"num_workers must be at least 0, got {num_workers}")
    sampler = AddressedSampler(len(dataset), batch_size, shuffle, seed, drop_last, rank, world_size, whole_batches)
    if sampler.num_samples == 0:
        raise ValueError(
            f"an epoch has no batch: {len(dataset)} samples with batch_size = {batch_size}"
            + (" and drop_last = true" if drop_last else "")
            + (f" for {world_size} processes" if world_size > 1 else "")
        )
    of_samples = tuple(transform for transform in transforms if not transforms_batches(transform))
    of_batches = tuple(transform for transform in transforms if transforms_batches(transform))
    if of_samples != tuple(transforms[: len(of_samples)]):
        late = type(of_samples[-1]).__name__
        raise ValueError(f"transforms of single samples must come before those of batches: move {late} up")
    fetch = Fetcher(dataset, of_samples, collator or DefaultCollator(), seed)
    batch_transforms = BatchTransforms(of_batches, seed, device) if of_batches else None
    pin = torch.cuda.is_available() if pin_memory is None else pin_memory
    return Loader(fetch, sampler, num_workers=num_workers, pin_memory=pin, batch_transforms=batch_transforms)
