"""Starting, watching and restarting the processes of a run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dovetail.checkpoint.format import read_checkpoint
from dovetail.distributed import launch as processes
from dovetail.spec.process import BAD_INPUT, FAILED
from installed import install
from process_runs import (
    children,
    dovetail,
    killed_and_uninterrupted,
    last_weights,
    newest_checkpoint,
    rank_1_of,
    start_long_run,
    wait_at,
)

#: A plugin at whose first import each of several processes is killed.
DIES_ONCE = """
import os, pathlib, signal

if "RANK" in os.environ:
    mark = pathlib.Path(os.environ["MARK"] + os.environ["RANK"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


#: A plugin with which one of two processes, the first unless told, takes its time to end, and the other as it is told.
ENDS_LATE = """
import atexit, os, signal, time

if os.environ.get("RANK") == os.environ.get("WHICH", "0"):
    atexit.register(time.sleep, float(os.environ["LATE"]))
elif "KILLED" in os.environ:
    atexit.register(os.kill, os.getpid(), signal.SIGKILL)
"""


#: A plugin with which the processes of a run misbehave as ``FAULTS`` says, by rank, before they have met.
MISBEHAVES = """
import os, time

fault = dict(pair.split(":") for pair in os.environ["FAULTS"].split()).get(os.environ.get("RANK"))
if fault == "exits":
    os._exit(7)
if fault == "killed":
    os.kill(os.getpid(), 9)
if fault == "hangs":
    time.sleep(100_000)
"""


#: A plugin with a dataset of which one sample cannot be read.
ROTTEN = """
from dovetail import Component, hookimpl

@hookimpl
def dovetail_datasets():
    yield Component("rotten", "rotten.data:Rotten", summary="Has a sample that cannot be read.")
"""


ROTTEN_DATA = """
import os
import torch

class Rotten:
    num_classes = 2

    def __len__(self):
        return 80

    def __getitem__(self, index):
        if index == 30 and os.environ["RANK"] == "1":
            raise KeyError("this sample is rotten")
        return torch.zeros(3), index % 2
"""


#: Imported by every Python that starts, before anything else: another run begins while the processes start.
OVERTAKES = """
import os, pathlib

if os.environ.get("RANK") == "0":
    pathlib.Path(os.environ["PARKED"]).rename(os.environ["NEWER"])
"""


@pytest.mark.slow
def test_only_the_first_has_the_console(tmp_path, run_file):
    """Under torchrun as under our own command, there is one run, and every line is said once."""
    done = subprocess.run(
        [
            sys.executable,
            *["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "dovetail", "run"],
            str(run_file),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("completed after") == 1
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    lines = (tmp_path / "runs" / "runs.md").read_text().splitlines()
    assert sum(folder.name in line for line in lines) == 1


@pytest.mark.slow
def test_one_that_is_killed_ends_them_all(tmp_path, run_file):
    """The run fails, says which process it was, and leaves none behind."""
    process = start_long_run(tmp_path, run_file)
    started = children(process.pid)
    os.kill(rank_1_of(process.pid), signal.SIGKILL)
    _, errors = process.communicate()

    assert process.returncode == 1
    assert "process 1 of 2 was killed by SIGKILL" in errors
    assert len(started) == 2
    assert not any(Path(f"/proc/{item}").exists() for item in started)


@pytest.mark.slow
def test_they_are_started_anew_from_the_last_checkpoint(tmp_path, run_file):
    """A run of which one process was killed ends like the one that was never disturbed, to the last bit."""
    settings = ["--nproc", "2", "training.max_epochs=30", "checkpoint.every={steps=10}", "model.dropout=0.1"]
    folder, whole, expected = killed_and_uninterrupted(tmp_path, run_file, *settings)

    weights, others = last_weights(folder), last_weights(whole)
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    seen = read_checkpoint(newest_checkpoint(folder))["training"]["state"]["samples_seen"]
    assert seen == 30 * expected["data"]["sizes"]["train"]


@pytest.mark.slow
def test_files_in_the_current_folder_are_no_modules(tmp_path, run_file):
    """As where one process trains: the command does not look there, and no more do those that it starts."""
    (tmp_path / "secrets.py").write_text("raise RuntimeError('a file of my own')")
    code = "import sys; from dovetail.cli import main; sys.exit(main())"

    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "run", str(run_file), "--nproc", "2", "training.max_epochs=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_one_process_is_started_anew_too(tmp_path, run_file):
    """With restarts there is somebody who watches it, however few there are."""
    process = start_long_run(
        tmp_path, run_file, "training.max_epochs=40", "--max-restarts", "1", *wait_at(tmp_path, 40)
    )
    while not list(tmp_path.glob("runs/small/*/checkpoints/*/manifest.json")):
        time.sleep(0.05)
    (alone,) = children(process.pid)
    os.kill(alone, signal.SIGKILL)
    output, errors = process.communicate()

    assert process.returncode == 0, errors
    assert errors.startswith("dovetail: process 0 of 1 was killed by SIGKILL\ndovetail: restarting")
    assert output.count("40 epochs of 29 steps") == 1  # after that which was read when it began
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["epochs"]) == ("completed", 40)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["never", "auto"])
def test_started_anew_they_go_on_with_what_the_command_began(tmp_path, run_file, policy):
    """Killed before they had a run, they leave an older one of the same settings alone, unless resume is to find it."""
    settings = ["--nproc", "2", "training.max_epochs=4"]
    dovetail(tmp_path, "run", str(run_file), *settings, "training.test=false", "budget.wall_clock=0.01s", check=False)
    (older,) = (tmp_path / "runs" / "small").iterdir()
    before = (older / "run.json").read_bytes()
    assert json.loads(before)["status"] == "out_of_budget"
    install(tmp_path / "site", "fragile", DIES_ONCE)
    path = os.pathsep.join([str(tmp_path / "site"), *sys.path])
    anew = ["training.test=false", f"checkpoint.resume={policy}", "--max-restarts", "1", "--json"]

    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "run", str(run_file), *settings, *anew],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "MARK": str(tmp_path / "mark")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "restarting" in done.stderr
    record = json.loads(done.stdout)
    assert record["status"] == "completed"
    assert record["launch"]
    assert (record["id"] == older.name) == (policy == "auto")
    assert ((older / "run.json").read_bytes() == before) == (policy == "never")


@pytest.mark.slow
def test_a_signal_may_reach_every_process(tmp_path, run_file):
    """As from Slurm, systemd or timeout: that it comes twice, or is passed on as well, makes it no second one."""
    install(tmp_path / "site", "echo", "import dovetail.distributed.launch as p; p.DUPLICATE_SIGNAL_SECONDS = 600.0")
    process = start_long_run(tmp_path, run_file)
    ranks = children(process.pid)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    while process.poll() is None:
        for item in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(item, signal.SIGTERM)
        time.sleep(0.01)
    _, errors = process.communicate()

    assert "was killed" not in errors
    assert process.returncode == 130, errors
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_a_second_order_ends_them_all_at_once(tmp_path, run_file):
    """Also one that does not answer, for which the first would wait."""
    process = start_long_run(tmp_path, run_file)
    ranks = children(process.pid)
    os.kill(rank_1_of(process.pid), signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    assert any("once more ends at once" in line for line in process.stderr)
    time.sleep(1)  # or it would be the same one
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()

    assert process.returncode == 130
    assert errors.splitlines()[-1] == "dovetail: killed; the last checkpoint is intact"
    assert not any(Path(f"/proc/{item}").exists() for item in ranks)


@pytest.mark.slow
def test_an_earlier_run_is_found_in_another_number_of_processes(tmp_path, run_file):
    """`auto` and `must` go on with it where an update stays of as many samples; else they say what would keep that."""
    held = wait_at(tmp_path, 40)
    two = ["training.max_epochs=12", *held, "--nproc", "2", "loader.batch_size=16", "hardware.strategy=fsdp"]
    process = start_long_run(tmp_path, run_file, *two)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    item = ["run", str(run_file), "training.max_epochs=12", *held, "--nproc", "1"]
    size = r"an update would be of 16 samples, but was of 32 .*; loader\.batch_size=32"
    differs = rf"{folder.name}, differs in hardware\.devices: {size}"

    missed = dovetail(tmp_path, *item, "loader.batch_size=16", "checkpoint.resume=must", check=False)
    other = dovetail(tmp_path, *item, "loader.batch_size=16", "checkpoint.resume=auto", "training.test=false", "--json")
    done = dovetail(tmp_path, *item, "loader.batch_size=32", "checkpoint.resume=auto", "--json")
    again = dovetail(tmp_path, "run", str(run_file), *two, "checkpoint.resume=must")

    assert missed.returncode == 2
    assert re.search(rf"checkpoint\.resume: there is no run with these settings .*{differs}", missed.stderr)
    began = json.loads(other.stdout)
    assert began["id"] != folder.name
    alerts = (tmp_path / began["folder"] / "alerts.jsonl").read_text()
    assert re.search(rf"starting a new run: the newest unfinished one, {differs}", alerts)
    record = json.loads(done.stdout)
    assert record["id"] == folder.name
    assert record["status"] == "completed"
    assert record["epochs"] == 12
    assert record["resumes"][0]["changed"]["hardware.devices"] == [2, 1]
    assert "nothing to do" in again.stdout


@pytest.fixture
def ends_late(tmp_path, monkeypatch):
    """Processes of which the first ends late, and that are given a second to end."""
    install(tmp_path / "site", "late", ENDS_LATE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *sys.path]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "_GRACE", 1.0)


@pytest.mark.slow
def test_the_first_may_be_the_last_to_end(tmp_path, run_file, monkeypatch, ends_late):
    """It may write reports and wait for copies when the others have ended well: it is not killed for being late."""
    monkeypatch.setenv("LATE", "6")

    code = processes.supervise(["run", str(run_file), "hardware={devices=2,strategy='ddp'}", "report.enabled=true"], 2)

    assert code == 0
    assert list(tmp_path.glob("runs/small/*/report.html"))


@pytest.mark.slow
def test_another_that_is_killed_ends_a_first_that_does_not_notice(run_file, monkeypatch, capfd, ends_late):
    """Nothing that the first waits for tells it; all have ended within the grace nevertheless."""
    monkeypatch.setenv("LATE", "100000")
    monkeypatch.setenv("KILLED", "1")

    code = processes.supervise(["run", str(run_file), "hardware={devices=2,strategy='ddp'}"], 2)

    assert code == FAILED
    assert "process 1 of 2 was killed by SIGKILL" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults,culprit",
    [
        ("1:exits", "process 1 of 2 failed with exit code 7"),
        ("0:exits 1:hangs", None),
        ("1:hangs 0:killed", "process 0 of 2 was killed by SIGKILL"),
    ],
)
def test_the_cause_is_named_and_not_who_was_ended_for_it(run_file, monkeypatch, capfd, faults, culprit):
    """One that waits for another which will never come, or that hangs, is ended; that is no reason to name it."""
    install(run_file.parent / "site", "bad", MISBEHAVES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(run_file.parent / "site"), *sys.path]))
    monkeypatch.setenv("FAULTS", faults)
    monkeypatch.chdir(run_file.parent)
    monkeypatch.setattr(processes, "_GRACE", 1.0)

    code = processes.supervise(["run", str(run_file), "hardware={devices=2,strategy='ddp'}"], 2)

    errors = capfd.readouterr().err.splitlines()
    assert code == FAILED
    assert errors == ([f"dovetail: {culprit}"] if culprit else [])


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--json", "--quiet"]])
def test_the_first_line_says_which_failed_and_the_others_say_nothing(tmp_path, run_file, options):
    """With where it arose, which is in no log: that others have lost it needs no words."""
    install(tmp_path / "site", "rotten", ROTTEN, data=ROTTEN_DATA)
    path = os.pathsep.join([str(tmp_path / "site"), *sys.path])

    done = subprocess.run(
        [
            *[sys.executable, "-m", "dovetail", "run", str(run_file), "--nproc", "2"],
            *["data={type='rotten',split={train=1.0}}", "checkpoint.monitor=train_loss", *options],
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    first, *others = done.stderr.splitlines()
    assert done.returncode == 1
    assert first == "dovetail: process 1 of 2 failed with exit code 1"
    assert others[-1] == "  1: dovetail: the run failed: 'this sample is rotten'"
    assert any("in __getitem__" in item for item in others)
    assert all(item.startswith("  1: ") for item in others)


@pytest.mark.slow
def test_the_run_that_is_resumed_is_chosen_once(tmp_path, run_file):
    """Of a run that begins meanwhile, and so is the latest, the processes take no notice."""
    settings = ["--nproc", "2", "training.max_epochs=4", "training.test=false"]
    dovetail(tmp_path, "run", str(run_file), *settings, "budget.wall_clock=0.01s", check=False)
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    newer = folder.with_name("2999-01-01T00-00-00-abcdef")
    shutil.copytree(folder, tmp_path / "parked")
    record = json.loads((folder / "run.json").read_text()) | {"id": newer.name, "started": "2999-01-01T00:00:00Z"}
    (tmp_path / "parked" / "run.json").write_text(json.dumps(record))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(OVERTAKES)
    path = os.pathsep.join([str(tmp_path / "site"), *sys.path])

    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "resume", "latest", "budget.wall_clock=@none"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PARKED": str(tmp_path / "parked"), "NEWER": str(newer)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert newer.is_dir()
    states = [json.loads((item / "run.json").read_text())["status"] for item in (folder, newer)]
    assert states == ["completed", "out_of_budget"]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["0", "1"], ids=["the first ends last", "the other has to be killed"])
def test_bad_input_is_told_whoever_ends_first(run_file, monkeypatch, capfd, ends_late, which):
    """The exit code is that of the one that refuses it, and not of another that has lost it."""
    monkeypatch.setenv("WHICH", which)
    monkeypatch.setenv("LATE", "100000" if which == "1" else "3")
    monkeypatch.setattr(processes, "_GRACE", 1.0 if which == "1" else 600.0)
    settings = ["hardware={devices=2,strategy='ddp'}", "checkpoint.resume=must"]

    code = processes.supervise(["run", str(run_file), *settings], 2)

    said = capfd.readouterr().err
    assert code == BAD_INPUT
    assert "there is no run with these settings" in said
    assert "process 1 of 2" not in said


def test_a_port_is_one_that_nobody_has_or_is_given_by_chance(monkeypatch):
    """The first process takes it seconds later: it is below those that the system gives out itself."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = processes._free_port()
        drawn = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(secrets, "choice", lambda _: next(drawn))

        assert processes._free_port() == free
        assert 15_000 <= free < 30_000


def test_as_many_processes_are_started_as_there_are_devices(tmp_path, run_file):
    """Where somebody else started another number of them, that is said, and nothing is trained."""
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "run", str(run_file), "hardware.devices=3", "hardware.strategy=ddp"],
        cwd=tmp_path,
        env={**os.environ, "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "hardware.devices: 3 devices need as many processes, but 2 were started" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "with_port,codes,said",
    [
        (
            False,
            [1, 1],
            "2 processes could not connect at 127.0.0.1:? (MASTER_ADDR:MASTER_PORT)",
        ),
        (True, [2, 1], "lost contact with another of the 2 processes"),
    ],
    ids=["nowhere to meet", "the first refuses"],
)
def test_what_slurm_starts_is_told_what_is_wrong(tmp_path, run_file, with_port, codes, said):
    """In a line, and without a traceback, also in a process that only learns that the first has ended."""
    port = str(15_000 + os.getpid() % 15_000)  # below those that the system gives out, another in each worker
    place = {"MASTER_ADDR": "127.0.0.1", "SLURM_NTASKS": "2"} | ({"MASTER_PORT": port} if with_port else {})
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "dovetail", "run", str(run_file), "checkpoint.resume=must"],
            cwd=tmp_path,
            env={**os.environ, **place, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [item.communicate()[1] for item in ranks]

    assert [item.returncode for item in ranks] == codes
    assert said in errors[1]
    assert [len(item.splitlines()) for item in errors] == [1, 1]
