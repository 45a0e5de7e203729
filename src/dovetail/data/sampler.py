"""Which samples make up which batch, computed for any batch of any epoch without visiting earlier ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import field, frozen

from dovetail.data.samples import Indices
from dovetail.data.seeding import permutation

#: The epoch, and the indices of a batch's samples.
Address = tuple[int, Indices]


@frozen
class AddressedSampler:
    """The order of the samples in each epoch. The order of epoch ``e`` depends only on the seed and on ``e``.

    In a run of several processes, each has its own sampler; the samplers differ only in ``rank``. The processes split
    every batch of ``world_size * batch_size`` samples evenly, so all have the same number of batches. A last batch with
    fewer samples than processes is dropped. With ``whole_batches``, the processes take turns with batches of
    ``batch_size`` instead: each batch is then the same as in one process, and none is dropped.
    """

    length: int
    #: Samples in a full batch of one process.
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    #: Drop the last batch of an epoch if it is not full.
    drop_last: bool = False
    #: This process, from 0.
    rank: int = 0
    #: The number of processes.
    world_size: int = 1
    whole_batches: bool = False
    _orders: dict[int, Indices] = field(factory=dict, init=False, eq=False, repr=False)

    def __len__(self) -> int:
        """Return the number of this process's batches in an epoch."""
        size = self.batch_size if self.whole_batches else self.batch_size * self.world_size
        least = 1 if self.whole_batches else self.world_size
        full, rest = divmod(self.length, size)
        batches = full + (rest >= least and not self.drop_last)
        return len(range(self.rank, batches, self.world_size)) if self.whole_batches else batches

    @property
    def num_samples(self) -> int:
        """Number of samples that all processes together use in an epoch."""
        if self.whole_batches:
            return self.length - self.length % self.batch_size if self.drop_last else self.length
        return min(self.length, len(self) * self.batch_size * self.world_size)

    def order(self, epoch: int) -> Indices:
        """Return the indices of all samples in the order of ``epoch``."""
        if epoch not in self._orders:
            # Cache the latest epoch only: the loader asks batch by batch, and never again for a finished epoch.
            self._orders.clear()
            self._orders[epoch] = (
                permutation(self.length, self.seed, "order", epoch) if self.shuffle else np.arange(self.length)
            )
        return self._orders[epoch]

    def samples(self, epoch: int) -> Iterator[tuple[int, int]]:
        """Yield ``(epoch, index)`` for every sample that any process uses in ``epoch``, in order."""
        return ((epoch, int(index)) for index in self.order(epoch)[: self.num_samples])

    def indices(self, epoch: int, number: int) -> Indices:
        """Return the samples of this process's batch ``number``, from 0, in ``epoch``."""
        order, size = self.order(epoch), self.batch_size
        if self.whole_batches:
            number = number * self.world_size + self.rank
            return order[number * size : (number + 1) * size]
        together = order[number * size * self.world_size : (number + 1) * size * self.world_size]
        start, end = (rank * len(together) // self.world_size for rank in (self.rank, self.rank + 1))
        return together[start:end]

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[Address]:
        """Yield the address of every batch of ``epoch``, starting at batch ``start_batch``."""
        for number in range(start_batch, len(self)):
            yield epoch, self.indices(epoch, number)
