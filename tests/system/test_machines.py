"""Processes connected by a network only: each in its own network namespace, as on two machines."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from process_runs import RUN, dovetail, last_weights


def ip(*arguments: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture
def machines() -> Iterator[list[tuple[str, str, str]]]:
    """Yield the name, address and interface of two connected network namespaces."""
    mark = secrets.token_hex(3)
    found = [(f"dovetail-{mark}-{number}", f"10.213.7.{number + 1}", f"dt{mark}{number}") for number in range(2)]
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("network namespaces need the command ip, and root")
    try:
        for name, _, _ in found:
            ip("netns", "add", name)
        ip("link", "add", found[0][2], "netns", found[0][0], "type", "veth", "peer", found[1][2], "netns", found[1][0])
        for name, address, interface in found:
            ip("-n", name, "addr", "add", f"{address}/24", "dev", interface)
            ip("-n", name, "link", "set", interface, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield found
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot create network namespaces here: {error.stderr.decode().strip()}")
    finally:
        for name, _, _ in found:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_machines_match_one(tmp_path, machines, strategy):
    """Two machines have results bitwise identical to those of two processes on one machine.

    With DDP, the second machine needs none of the first one's folders, and writes nothing.
    """
    (tmp_path / "small.toml").write_text(RUN)
    homes = [tmp_path, tmp_path / "elsewhere"]
    homes[1].mkdir()
    settings = [str(tmp_path / "small.toml"), "loader.batch_size=16", f"hardware.strategy={strategy}"]
    local = json.loads(dovetail(tmp_path, "run", *settings, "--nproc", "2", "run.name=local", "--json").stdout)

    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "dovetail", "run", *settings, "--json"],
            cwd=homes[rank if strategy == "ddp" else 0],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": "0",
                "MASTER_ADDR": machines[0][1],
                "MASTER_PORT": "29713",
                "GLOO_SOCKET_IFNAME": interface,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, (name, _, interface) in enumerate(machines)
    ]
    try:
        outputs = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()

    assert [process.returncode for process in processes] == [0, 0], outputs
    record = json.loads(outputs[0][0])
    assert record["status"] == "completed"
    assert outputs[1][0] == ""
    assert record["test"] == local["test"]
    weights, others = (last_weights(tmp_path / run["folder"]) for run in (local, record))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert not list(Path(homes[1]).iterdir())
