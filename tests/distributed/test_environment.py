"""Which process this one is, and where those of a Slurm step meet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.distributed.environment import first_host, meeting_point, own_gpu, rank_and_size
from dovetail.distributed.errors import GroupError
from process_runs import RUN

#: What `srun` tells a task of eight on two nodes.
STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "3",
    "SLURM_JOB_NODELIST": "login,gpu[01-04]",
    "SLURM_STEP_NODELIST": "gpu[02-03]",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}
HOSTS = st.text("abcz-.019", min_size=1, max_size=5)
NUMBERS = st.tuples(st.integers(0, 120), st.integers(1, 4)).map(lambda item: f"{item[0]:0{item[1]}d}")
RANGES = st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS).map("-".join))


@st.composite
def listed(draw: st.DrawFn) -> tuple[str, str]:
    """Return a host as the first of a list, and the list."""
    host = nodes = draw(HOSTS)
    for _ in range(draw(st.integers(0, 2))):
        numbers = draw(st.lists(RANGES, min_size=1, max_size=3))
        after = draw(st.text("xy-", max_size=2))
        host += numbers[0].partition("-")[0] + after
        nodes += f"[{','.join(numbers)}]{after}"
    others = draw(st.lists(st.sampled_from(["b2", "c[1-3,9]", "d[1-2]e[3]"]), max_size=2))
    return host, ",".join([nodes, *others])


@given(listed())
def test_the_first_host_of_a_list_is_read(case):
    """Whatever is in the brackets and after them: zeros in front stay, and what follows does not matter."""
    host, nodes = case

    assert first_host(nodes) == host


@pytest.mark.parametrize("nodes", ["", "a[", "a[1-", "a[x]", "a[]", ",a", "a b"])
def test_what_is_no_list_of_hosts_is_refused(nodes):
    """By what it is, and what to do."""
    with pytest.raises(GroupError, match=r"cannot parse Slurm's node list '.*'; set MASTER_ADDR to the host of task 0"):
        first_host(nodes)


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> None:
    """Have only these variables of what starts processes."""
    for name in os.environ:
        if name.startswith(("SLURM_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_RANK")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        if value is not None:
            monkeypatch.setenv(name, value)


def test_the_tasks_of_a_step_meet_at_its_first_node(monkeypatch):
    """At a port of the job and the step, which is the same in every task and another in the next step."""
    environment(monkeypatch, **STEP)
    place = meeting_point()
    environment(monkeypatch, **{**STEP, "SLURM_PROCID": "7"})
    same = meeting_point()
    environment(monkeypatch, **{**STEP, "SLURM_STEP_ID": "3"})
    other = meeting_point()

    assert rank_and_size() == (3, 8)
    assert place == same
    assert place["MASTER_ADDR"] == "gpu02"
    assert 15_000 <= int(place["MASTER_PORT"]) < 30_000
    assert place["MASTER_PORT"] != other["MASTER_PORT"]


@pytest.mark.parametrize(
    "changed,address",
    [
        ({"SLURM_STEP_NODELIST": None}, "login"),
        ({"SLURM_STEP_NODELIST": None, "SLURM_JOB_NODELIST": None}, "10.0.0.1"),
        ({"MASTER_ADDR": "mine"}, "mine"),
    ],
)
def test_what_is_set_wins_and_what_is_missing_has_a_substitute(monkeypatch, changed, address):
    """An address of one's own; else the step's nodes, the job's, and where the step was launched."""
    environment(monkeypatch, **{**STEP, **changed, "MASTER_PORT": "1234"})

    assert meeting_point() == {"MASTER_ADDR": address, "MASTER_PORT": "1234"}


@pytest.mark.parametrize(
    "changed",
    [
        {"SLURM_STEP_ID": None},
        {"SLURM_STEP_ID": str(0xFFFFFFFA)},
        {"SLURM_STEP_ID": str(0xFFFFFFFB)},
        {"SLURM_JOB_NAME": "bash"},
        {"SLURM_JOB_NAME": "interactive"},
        {"SLURM_NTASKS": None},
    ],
    ids=["batch script", "interactive step", "batch step", "a shell", "salloc", "no tasks"],
)
def test_a_script_or_a_shell_is_one_process(monkeypatch, changed):
    """However many tasks the job counts, they are not there."""
    environment(monkeypatch, **{**STEP, "SLURM_PROCID": "0", **changed})

    assert rank_and_size() == (0, 1)


@pytest.mark.parametrize(
    "variables,expected",
    [
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, (1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),
        ({**STEP, "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, (1, 2)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "MASTER_ADDR": "a"}, (1, 2)),
        ({}, (0, 1)),
    ],
)
def test_whoever_started_a_process_is_believed(monkeypatch, variables, expected):
    """Torchrun inside of a step counts its own; an address that is set is enough for Slurm's tasks."""
    environment(monkeypatch, **variables)

    assert rank_and_size() == expected


@pytest.mark.parametrize(
    "variables, visible, own",
    [
        ({"LOCAL_RANK": "3"}, 8, 3),
        ({"LOCAL_RANK": "1"}, 1, 1),  # of a machine with one GPU, which is refused
        ({"SLURM_LOCALID": "3"}, 4, 3),
        ({"SLURM_LOCALID": "3"}, 1, 0),  # shown its own alone
    ],
)
def test_each_process_takes_a_gpu_of_its_own(monkeypatch, variables, visible, own):
    """By its place on the machine, unless Slurm shows it one alone."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert own_gpu(visible) == own


@pytest.mark.slow
def test_the_tasks_of_a_step_train_one_run(tmp_path):
    """Two processes with Slurm's variables alone make one run together; the same ones in a batch script, one each."""
    (tmp_path / "small.toml").write_text(RUN)
    step: dict[str, Any] = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MASTER_"))},
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NODELIST": "127.0.0.[1-2]",
    }
    tasks = [start(tmp_path, {**step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}) for rank in range(2)]
    together = [item.communicate() for item in tasks]
    step.pop("SLURM_STEP_ID")
    alone = start(tmp_path, {**step, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    single, _ = alone.communicate()

    assert [item.returncode for item in tasks] == [0, 0], together[0][1]
    runs = {path.name for path in (tmp_path / "runs" / "small").iterdir()}
    folder = json.loads(together[0][0])["folder"]
    assert runs == {Path(folder).name, json.loads(single)["id"]}
    assert "devices = 2" in (tmp_path / folder / "resolved.toml").read_text()


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a run as one of the tasks of a step."""
    return subprocess.Popen(
        [sys.executable, "-m", "dovetail", "run", "small.toml", "training.max_epochs=1", "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
