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
    """The order of the samples in each epoch. The order of epoch ``e`` depends only on the seed and on ``e``."""

    length: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    #: Leave out the last batch of an epoch if it is not full.
    drop_last: bool = False
    _orders: dict[int, Indices] = field(factory=dict, init=False, eq=False, repr=False)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

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
        """Yield ``(epoch, index)`` for every sample that ``epoch`` uses, in its order."""
        used = len(self) * self.batch_size
        return ((epoch, int(index)) for index in self.order(epoch)[:used])

    def batches(self, epoch: int, start_batch: int = 0) -> Iterator[Address]:
        """Yield the address of every batch of ``epoch`` from number ``start_batch`` on."""
        order, size = self.order(epoch), self.batch_size
        for number in range(start_batch, len(self)):
            yield epoch, order[number * size : (number + 1) * size]
