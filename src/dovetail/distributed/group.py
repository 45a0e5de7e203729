"""The processes of a run: rank, world size, and the collectives between them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import evolve, frozen
from torch import Tensor

from dovetail.distributed.environment import meeting_point, rank_and_size
from dovetail.distributed.errors import GroupError, process_lost
from dovetail.kernel.renamed import renamed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

    from dovetail.train.state import Stop

#: How long a process waits in a collective for one that does not respond.
_TIMEOUT: Final = timedelta(minutes=10)


@frozen
class Group:
    """The processes of a run. In a run of one process every method returns at once.

    Collectives: every rank must make the same calls in the same order; a call returns when all ranks have made it.
    """

    rank: int = 0
    #: The world size.
    size: int = 1
    #: The device mesh of sharded weights; None where each process holds the whole model.
    mesh: DeviceMesh | None = None
    #: The process group to communicate through; None for the default one.
    channel: ProcessGroup | None = None

    def new_group(self) -> Group:
        """Return the same processes with a gloo channel of their own, for a thread beside training. A collective."""
        return evolve(self, channel=torch.distributed.new_group(backend="gloo", timeout=_TIMEOUT))

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, the only one that writes to the run's folder and to the console."""
        return self.rank == 0

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sums of ``values`` over all processes, in-place."""
        if self.size > 1:
            torch.distributed.all_reduce(values, group=self.channel)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's ``value``, which must be picklable."""
        if self.size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, group=self.channel)
        return values[0]

    def all_gather(self, value: Any) -> list[Any]:
        """Return the ``value`` of every process, by rank; it must be picklable."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        torch.distributed.all_gather_object(values, value, group=self.channel)
        return values

    def agree(self, stop: Stop | None, due: bool, broken: bool, samples: int) -> tuple[Stop | None, bool, bool, int]:  # noqa: FBT001 (two of four values that travel together)
        """Exchange what each process alone knows, so that all do the same next.

        Args:
            stop: a request to stop that this process received.
            due: whether something is due by this process's clock.
            broken: whether this process saw a non-finite loss.
            samples: how many samples this process trained on since the last exchange.

        Returns:
            The request of the lowest rank that has one; whether anything is due, and whether any loss was non-finite,
            in any process; and the samples of all processes.
        """
        counts = torch.tensor([stop is not None, due, broken, samples], dtype=torch.int64)
        stops, dues, faults, total = self.all_reduce(counts).tolist()
        if stops:
            stop = next(request for request in self.all_gather(stop) if request is not None)
        return stop, dues > 0, faults > 0, total

    __getattr__ = renamed({"share": "broadcast", "add_up": "all_reduce", "gather": "all_gather", "apart": "new_group"})


#: A run of one process.
ALONE: Final = Group()


@contextlib.contextmanager
def joined(device: torch.device, *, sharded: bool = False) -> Iterator[Group]:
    """Connect to the processes that were started with this one, until the context ends.

    Args:
        device: where to train. Tensors on a GPU travel by NCCL, everything else by gloo.
        sharded: make a device mesh to shard the model over.

    Raises:
        GroupError: the processes cannot connect, or one of them exits.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield ALONE
        return
    os.environ.update(meeting_point())
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        torch.distributed.init_process_group(backend, rank=rank, world_size=size, timeout=_TIMEOUT)
    except (ValueError, RuntimeError) as error:
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise GroupError(
            f"{size} processes could not connect at {where} (MASTER_ADDR:MASTER_PORT): {str(error).splitlines()[0]}"
        ) from error
    try:
        yield Group(rank, size, _mesh(device, size) if sharded else None)
    except Exception as error:
        lost = process_lost(error, size)
        if lost is None:
            raise
        raise lost from error
    finally:
        torch.distributed.destroy_process_group()


def _mesh(device: torch.device, size: int) -> DeviceMesh:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (size,))
