"""Which of several processes this one is, as the environment says that whoever started it left: we, torchrun, Slurm."""

from __future__ import annotations

import os
import re
from typing import Final

_ADDRESS: Final = "MASTER_ADDR"
_PORT: Final = "MASTER_PORT"
#: Steps from here on are a job's script, its shell, and what else Slurm keeps for itself.
_SPECIAL_STEPS: Final = 0xFFFFFFF0
#: What Slurm calls a job that is a shell.
_SHELLS: Final = ("bash", "interactive")
#: Ports to meet at: below those that a system gives out itself, so that none of them is in use by chance.
PORTS: Final = range(15_000, 30_000)
#: Between the ports of two steps of a job: jobs that run side by side have numbers close together.
_STEP_APART: Final = 1009


class GroupError(RuntimeError):
    """Processes that are to train together do not find one another, or one of them is gone."""


def from_environment() -> tuple[int, int]:
    """Return this process's number, from 0, and how many were started together."""
    if {"RANK", "WORLD_SIZE", _ADDRESS} <= os.environ.keys():
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if {"SLURM_PROCID", "SLURM_NTASKS"} <= os.environ.keys() and (_ADDRESS in os.environ or _in_step()):
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    return 0, 1


def _in_step() -> bool:
    """Say whether ``srun`` started this process as a task, and not a batch script or a shell of somebody's.

    Those have the variables of a task too, though the other tasks that they count are not there.
    """
    step, name = os.environ.get("SLURM_STEP_ID", ""), os.environ.get("SLURM_JOB_NAME")
    return step.isdecimal() and int(step) < _SPECIAL_STEPS and name not in _SHELLS


def meeting_place() -> dict[str, str]:
    """Return the ``MASTER_ADDR`` and ``MASTER_PORT`` that are set; those of a Slurm step that are not, it tells itself.

    All its tasks come to the same: the first node, where task 0 is, and a port that hangs on the job and the step.

    Raises:
        GroupError: the nodes cannot be read.
    """
    told = {name: os.environ[name] for name in (_ADDRESS, _PORT) if name in os.environ}
    if len(told) == len((_ADDRESS, _PORT)) or not _in_step():
        return told
    job, step = int(os.environ.get("SLURM_JOB_ID", "0")), int(os.environ["SLURM_STEP_ID"])
    own = {_PORT: str(PORTS[(job + _STEP_APART * step) % len(PORTS)])}
    if _ADDRESS not in told:
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
        # Where srun was called: seldom another machine, such as one to log in to.
        own[_ADDRESS] = first_host(nodes) if nodes else os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")
    return {**own, **told}


def first_host(nodes: str) -> str:
    """Return the first host of a list as Slurm writes it, such as ``gpu[07-09,12],login1``.

    Raises:
        GroupError: it is no such list.
    """
    first = re.match(r"(?:[^\s,\[\]]|\[\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*\])+(?=,|$)", nodes)
    if first is None:
        message = f"Slurm's list of nodes, '{nodes}', cannot be read; set {_ADDRESS} to the host of task 0"
        raise GroupError(message)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first[0])


def size_of_group() -> int:
    """Return how many processes were started together."""
    return from_environment()[1]


def local_rank() -> int:
    """Return which of the processes on this machine this is, from 0."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return int(os.environ[name])
    return from_environment()[0]


def own_gpu(visible: int) -> int:
    """Return which of the ``visible`` GPUs is this process's own.

    The processes of a machine mostly see all of its GPUs, and take one each; but Slurm may show a task its own alone,
    as with ``--gpus-per-task``.
    """
    by_slurm = "SLURM_LOCALID" in os.environ and "LOCAL_RANK" not in os.environ
    return 0 if by_slurm and visible == 1 else local_rank()
