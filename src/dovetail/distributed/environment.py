"""Rank and world size of this process, from the environment that the launcher set: ours, torchrun's or Slurm's."""

from __future__ import annotations

import os
import re
from typing import Final

from dovetail.distributed.errors import GroupError

_ADDRESS: Final = "MASTER_ADDR"
_PORT: Final = "MASTER_PORT"
#: Slurm numbers from here on are special steps: a job's batch script, its shell, and others.
_SPECIAL_STEPS: Final = 0xFFFFFFF0
#: The names Slurm gives interactive jobs.
_SHELLS: Final = ("bash", "interactive")
#: Ports to meet at: below the range from which systems assign ephemeral ports.
PORTS: Final = range(15_000, 30_000)
#: Distance between the ports of two steps of a job, since concurrent jobs have close ids.
_STEP_DISTANCE: Final = 1009


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the world size."""
    if {"RANK", "WORLD_SIZE", _ADDRESS} <= os.environ.keys():
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if {"SLURM_PROCID", "SLURM_NTASKS"} <= os.environ.keys() and (_ADDRESS in os.environ or _in_step()):
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    return 0, 1


def _in_step() -> bool:
    """Return whether ``srun`` started this process as a task.

    A batch script or an interactive shell has the variables of a task too, but its other tasks do not exist.
    """
    step, name = os.environ.get("SLURM_STEP_ID", ""), os.environ.get("SLURM_JOB_NAME")
    return step.isdecimal() and int(step) < _SPECIAL_STEPS and name not in _SHELLS


def meeting_point() -> dict[str, str]:
    """Return ``MASTER_ADDR`` and ``MASTER_PORT``: the values that are set, and for a Slurm step the missing ones.

    All tasks of a step compute the same: the first node, where task 0 runs, and a port derived from the job and step
    ids.

    Raises:
        GroupError: Slurm's list of nodes cannot be parsed.
    """
    given = {name: os.environ[name] for name in (_ADDRESS, _PORT) if name in os.environ}
    if len(given) == len((_ADDRESS, _PORT)) or not _in_step():
        return given
    job, step = int(os.environ.get("SLURM_JOB_ID", "0")), int(os.environ["SLURM_STEP_ID"])
    derived = {_PORT: str(PORTS[(job + _STEP_DISTANCE * step) % len(PORTS)])}
    if _ADDRESS not in given:
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
        # The launch node is where srun was called: rarely another machine, such as a login node.
        derived[_ADDRESS] = first_host(nodes) if nodes else os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
    return {**derived, **given}


def first_host(nodes: str) -> str:
    """Return the first host of a Slurm node list, such as ``gpu[07-09,12],login1``.

    Raises:
        GroupError: the list cannot be parsed.
    """
    first = re.match(r"(?:[^\s,\[\]]|\[\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*\])+(?=,|$)", nodes)
    if first is None:
        raise GroupError(f"cannot parse Slurm's node list '{nodes}'; set {_ADDRESS} to the host of task 0")
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first[0])


def world_size() -> int:
    """Return how many processes were started together."""
    return rank_and_size()[1]


def local_rank() -> int:
    """Return this process's rank on its machine."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return int(os.environ[name])
    return rank_and_size()[0]


def own_gpu(visible: int) -> int:
    """Return the index of this process's GPU among the ``visible`` ones.

    Usually the processes of a machine see all of its GPUs and use one each. Slurm may show each task only its own GPU,
    for instance with ``--gpus-per-task``.
    """
    by_slurm = "SLURM_LOCALID" in os.environ and "LOCAL_RANK" not in os.environ
    return 0 if by_slurm and visible == 1 else local_rank()
