"""Which samples make up which batch: known for any batch of any epoch without visiting those before it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import field, frozen

from dovetail.data.address import permutation
from dovetail.data.samples import Indices

#: The epoch, and the indices of a batch's samples.
Address = tuple[int, Indices]


@frozen
class AddressedSampler:
    """The order of the samples in each epoch. The order of epoch ``e`` depends only on the seed and on ``e``.

    Where several processes train together, each has one of its own, like the others' but for ``rank``. They
    split every batch of ``ranks * batch_size`` samples evenly, so that all have the same number of batches; a last one
    with fewer samples than there are processes, nobody gets. With ``whole_batches`` they take turns
    with batches of ``batch_size`` instead: each is then the same as in one process, and none is left out.
    """

    length: int
    #: Samples in a full batch of one process.
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    #: Leave out the last batch of an epoch if it is not full.
    drop_last: bool = False
    #: Which process this is, from 0, and of how many.
    rank: int = 0
    ranks: int = 1
    whole_batches: bool = False
    _orders: dict[int, Indices] = field(factory=dict, init=False, eq=False, repr=False)

    def __len__(self) -> int:
        """Return the number of this process's batches in an epoch."""
        size = self.batch_size if self.whole_batches else self.batch_size * self.ranks
        least = 1 if self.whole_batches else self.ranks
        full, rest = divmod(self.length, size)
        batches = full + (rest >= least and not self.drop_last)
        return len(range(self.rank, batches, self.ranks)) if self.whole_batches else batches

    @property
    def num_samples(self) -> int:
        """Number of samples that an epoch of all processes together uses."""
        if self.whole_batches:
            return self.length - self.length % self.batch_size if self.drop_last else self.length
        return min(self.length, len(self) * self.batch_size * self.ranks)

    def order(self, epoch: int) -> Indices:
        """Return the indices of all samples in the order of ``epoch``."""
        if epoch not in self._orders:
            # Only the latest is kept: an epoch is asked for batch by batch, and a finished one not again.
            self._orders.clear()
            self._orders[epoch] = (
                permutation(self.length, self.seed, "order", epoch) if self.shuffle else np.arange(self.length)
            )
        return self._orders[epoch]

    def samples(self, epoch: int) -> Iterator[tuple[int, int]]:
        """Yield ``(epoch, index)`` for every sample that ``epoch`` uses, of all processes, in its order."""
        return ((epoch, int(index)) for index in self.order(epoch)[: self.num_samples])

    def indices(self, epoch: int, number: int) -> Indices:
        """Return the samples of batch ``number``, from 0, of this process in ``epoch``."""
        order, size = self.order(epoch), self.batch_size
        if self.whole_batches:
            number = number * self.ranks + self.rank
            return order[number * size : (number + 1) * size]
        together = order[number * size * self.ranks : (number + 1) * size * self.ranks]
        start, end = (one * len(together) // self.ranks for one in (self.rank, self.rank + 1))
        return together[start:end]

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[Address]:
        """Yield the address of every batch of ``epoch`` from number ``start_batch`` on."""
        for number in range(start_batch, len(self)):
            yield epoch, self.indices(epoch, number)
