"""Ranks of a run as threads of this process: what several ranks agree on, tested in milliseconds."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from attrs import field, frozen
from torch import Tensor

from dovetail.distributed.group import Group

#: Seconds until a rank gives up waiting for another: only where a test fails.
_PATIENCE = 60


class Meeting:
    """Where the ranks exchange values, pickled as between processes."""

    def __init__(self, size: int) -> None:
        """Meet ``size`` ranks."""
        self._values = [b""] * size
        self._barrier = threading.Barrier(size, timeout=_PATIENCE)

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """Return the values of all ranks."""
        self._values[rank] = pickle.dumps(value)
        self._barrier.wait()
        values = [pickle.loads(each) for each in self._values]  # noqa: S301 (our own)
        self._barrier.wait()
        return values


@frozen
class ThreadGroup(Group):
    """A group whose ranks are threads."""

    meeting: Meeting = field(kw_only=True)

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sums over all ranks, in-place."""
        return values.copy_(sum(self.all_gather(values)))

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value."""
        return self.all_gather(value)[0]

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value of every rank."""
        return self.meeting.exchange(self.rank, value)


def on_ranks(work: Callable[[Group], Any], size: int = 2, **options: Any) -> list[Any]:
    """Call ``work`` with a group on each rank, and return what each rank returned or raised.

    Args:
        work: what a rank does.
        size: the world size.
        options: of the group, such as ``mesh``.
    """
    meeting = Meeting(size)

    def rank(number: int) -> Any:
        try:
            return work(ThreadGroup(number, size, meeting=meeting, **options))
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, range(size)))
