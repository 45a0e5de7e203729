"""The processes of a run and their collectives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import torch

from dovetail.distributed.group import Group
from process_runs import (
    start_long_run,
)


@pytest.mark.slow
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGUSR1])
def test_all_stop_after_the_same_update(tmp_path, run_file, told):
    """A signal ends the run as interrupted, with one checkpoint of its last update, and it is not started anew."""
    process = start_long_run(tmp_path, run_file, "--nproc", "2", "training.max_epochs=100000", "--max-restarts", "1")
    process.send_signal(told)
    output, errors = process.communicate()

    assert process.returncode == 130, errors
    assert "interrupted" in output
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert any(str(record["steps"]) in path.name for path in (folder / "checkpoints").iterdir())


#: Prints what each collective returns, in each of two processes.
COLLECTIVES = """
import json, warnings
import torch
from dovetail.distributed.group import joined

with joined(torch.device("cpu")) as group:
    sums = group.all_reduce(torch.tensor([group.rank + 1, 10])).tolist()
    side = group.new_group().all_gather(group.rank)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old = [group.share(group.rank), group.gather(group.rank), group.add_up(torch.tensor([1])).tolist()]
    words = sorted(str(warning.message) for warning in caught)
    result = [sums, side, group.broadcast({"from": group.rank}), group.all_gather(group.rank), group.leads, old, words]
    print(json.dumps(result))
"""


def test_collectives_of_two_processes(tmp_path):
    """Each returns the same in both processes; the old names work and warn."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECTIVES],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [json.loads(process.communicate()[0].splitlines()[-1]) for process in ranks]

    words = ["Group.add_up is now called all_reduce", "Group.gather is now called all_gather"]
    words.append("Group.share is now called broadcast")
    for rank, output in enumerate(outputs):
        assert output == [[3, 20], [0, 1], {"from": 0}, [0, 1], rank == 0, [0, [0, 1], [2]], words]


def free_port() -> int:
    """Return a port that no other process uses at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_one_process_needs_no_group():
    """Every collective of a run of one process returns its argument, and an unknown name is no collective."""
    group = Group()

    assert group.leads
    assert group.broadcast("value") == "value"
    assert group.all_gather("value") == ["value"]
    assert group.all_reduce(torch.tensor([2])).tolist() == [2]
    with pytest.raises(AttributeError, match="'Group' object has no attribute 'scatter'"):
        group.scatter()
