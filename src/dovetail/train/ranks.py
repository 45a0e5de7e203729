"""Which of several processes this one is, as the environment says that whoever started it left: we, torchrun, Slurm."""

from __future__ import annotations

import os


class GroupError(RuntimeError):
    """Processes that are to train together do not find one another, or one of them is gone."""


def from_environment() -> tuple[int, int]:
    """Return this process's number, from 0, and how many were started together."""
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        # Without an address to meet at, Slurm's variables are those of a shell or of a task that stands alone.
        if {rank, size, "MASTER_ADDR"} <= os.environ.keys():
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def size_of_group() -> int:
    """Return how many processes were started together."""
    return from_environment()[1]


def local_rank() -> int:
    """Return which of the processes on this machine this is, from 0."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return int(os.environ[name])
    return from_environment()[0]
