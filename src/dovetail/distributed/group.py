"""The processes that train one run together: which one this is, and what all of them tell one another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import evolve, frozen
from torch import Tensor

from dovetail.distributed.environment import GroupError, from_environment, meeting_place
from dovetail.train.errors import process_lost

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

    from dovetail.train.state import Stop

#: How long one process waits for another that is there but says nothing.
_PATIENCE: Final = timedelta(minutes=10)


@frozen
class Group:
    """The processes of a run. Alone, nothing here waits or costs anything.

    What all must do together, they call in the same order and as often; only then does any of them go on.
    """

    #: Which one this is, from 0. The first leads: it alone writes to the run's folder and to the console.
    rank: int = 0
    size: int = 1
    #: What the state of the run is shared out over; None where each process has the whole of it.
    mesh: DeviceMesh | None = None
    #: By which they talk; None for that of training.
    channel: ProcessGroup | None = None

    def apart(self) -> Group:
        """Return the same processes for what another thread does beside training; all call this together."""
        return evolve(self, channel=torch.distributed.new_group(backend="gloo", timeout=_PATIENCE))

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sums of ``values`` over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values, group=self.channel)
        return values

    def share(self, value: Any) -> Any:
        """Return what the leader gave for ``value``."""
        if self.size == 1:
            return value
        shared = [value]
        torch.distributed.broadcast_object_list(shared, group=self.channel)
        return shared[0]

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave for ``value``, by rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        torch.distributed.all_gather_object(values, value, group=self.channel)
        return values

    def agree(self, stop: Stop | None, due: bool, broken: bool, samples: int) -> tuple[Stop | None, bool, bool, int]:  # noqa: FBT001 (two of four values that travel together)
        """Settle what all do next.

        Args:
            stop: that this process has been asked to stop.
            due: whether something is due here by the clock.
            broken: whether a loss was no number here.
            samples: how many this process has trained on since the last time.

        Returns:
            The stop that the first process to have one was asked for; whether something is due anywhere, and
            whether a loss was no number; and the samples of all.
        """
        told = torch.tensor([stop is not None, due, broken, samples], dtype=torch.int64)
        stops, dues, faults, total = self.add_up(told).tolist()
        if stops:
            stop = next(one for one in self.gather(stop) if one is not None)
        return stop, dues > 0, faults > 0, total


#: One process.
ALONE: Final = Group()


@contextlib.contextmanager
def joined(device: torch.device, *, sharded: bool = False) -> Iterator[Group]:
    """Join the processes that were started with this one, for as long as the context lasts.

    Args:
        device: where to train. Tensors on a GPU travel by NCCL, all else by gloo.
        sharded: share the state of the run out over the processes.

    Raises:
        GroupError: they do not find one another, or one of them is gone.
    """
    rank, size = from_environment()
    if size == 1:
        yield ALONE
        return
    os.environ.update(meeting_place())
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        torch.distributed.init_process_group(backend, rank=rank, world_size=size, timeout=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        message = (
            f"{size} processes are to train together, and do not find one another at {where}, as MASTER_ADDR and "
            f"MASTER_PORT have it: {str(error).splitlines()[0]}"
        )
        raise GroupError(message) from error
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
