"""Signals to real runs: a checkpoint, the command that goes on, an exit code, and a run that goes on to its end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN_FILE = """\
[run]
name = "small"

[data]
type = "csv"
path = "points.csv"
target = "side"
split = { train = 0.8, validation = 0.2 }

[model]
type = "mlp"
hidden_dims = [8]

[loss]
type = "cross_entropy"

[loader]
batch_size = 2

[training]
max_epochs = 1000000

[checkpoint]
every = { minutes = 60 }

[report]
enabled = false

[hardware]
threads = 1
"""
COMMAND = [sys.executable, "-c", "import sys; from dovetail.cli import main; sys.exit(main())"]

pytestmark = pytest.mark.slow


@pytest.fixture
def small(tmp_path, monkeypatch) -> None:
    """Be in a folder with a run file whose run takes days."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{x},{60 - x},{'right' if x > 30 else 'left'}" for x in range(60)]
    Path("points.csv").write_text("x,y,side\n" + "\n".join(rows) + "\n", encoding="utf-8")
    Path("small.toml").write_text(RUN_FILE, encoding="utf-8")


def started(*arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start a run in a group of processes of its own, and wait until it trains."""
    process = subprocess.Popen(
        [*under, *COMMAND, "run", "small.toml", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None:
        if any(path.stat().st_size for path in Path("runs").glob("small/*/metrics.jsonl")):
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def record() -> dict[str, object]:
    """Return the record of the only run."""
    (path,) = Path("runs").glob("small/*/run.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_a_signal_stops_a_run_with_a_checkpoint_and_it_goes_on(small, number):
    """Also where it goes to the loader's workers as well, as a Ctrl-C in a terminal does."""
    process = started("loader.num_workers=1")
    os.killpg(process.pid, number)
    out, err = process.communicate()

    assert process.returncode == 130, err
    assert err.count("stopping with a checkpoint") == 1
    assert "Traceback" not in err
    assert record()["reason"] == f"got {number.name}"
    (line,) = [line for line in out.splitlines() if line.startswith("  resume")]
    command = shlex.split(line)[1:]
    assert command[:2] == ["dovetail", "resume"]

    epochs = record()["epochs"] + 1
    done = subprocess.run(
        [*COMMAND, *command[1:], f"training.max_epochs={epochs}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "resuming at epoch" in done.stdout
    assert record()["status"] == "completed"


def test_a_terminal_that_is_gone_stops_a_run_with_a_checkpoint(small):
    """As when somebody's connection breaks, and nothing can be written any more."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *COMMAND, "run", "small.toml"], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while not any(path.stat().st_size for path in Path("runs").glob("small/*/metrics.jsonl")):
        shown += os.read(ours, 1 << 16)
        assert process.poll() is None, shown
    os.close(ours)

    assert process.wait() == 130, shown
    assert record()["reason"] == "got SIGHUP"
    assert list(Path("runs").glob("small/*/checkpoints/step-*"))


def test_a_run_under_nohup_outlives_its_terminal(small):
    """It is told to stop by other signals, as ever."""
    process = started(under=("nohup",))
    process.send_signal(signal.SIGHUP)
    steps = Path(next(iter(Path("runs").glob("small/*")))) / "metrics.jsonl"
    length = steps.stat().st_size
    while steps.stat().st_size == length:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()

    assert process.returncode == 130
    assert record()["reason"] == "got SIGTERM"


def test_notices_do_not_add_up_and_a_second_order_kills(small):
    """Slurm's notice, twice, and its SIGTERM afterwards stop in peace; two SIGTERM end the process at once."""
    process = started()
    os.kill(process.pid, signal.SIGSTOP)  # so that all arrive before it can have ended
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
        os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate()
    assert process.returncode == 130, err


def test_a_second_ctrl_c_ends_the_process_at_once(small):
    """Even if it never comes to the end of an update."""
    code = (
        "import sys, time; from dovetail.train import session;"
        "session.Session._save = lambda *_: time.sleep(600);"
        "from dovetail.cli import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "small.toml"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while not any(path.stat().st_size for path in Path("runs").glob("small/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline() == "SIGINT: stopping with a checkpoint; once more ends at once\n"
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # in a moment it is taken for the same one

    assert process.returncode == -signal.SIGINT
    process.communicate()


def test_an_order_that_comes_twice_in_a_moment_is_one(small):
    """As from `timeout`, which sends it to the process and to its group; here the moment ends when its input does."""
    code = (
        "import sys, types; from dovetail.train import signals;"
        "signals.time = types.SimpleNamespace(sleep=lambda _: sys.stdin.read());"
        "from dovetail.cli import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "small.toml"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not any(path.stat().st_size for path in Path("runs").glob("small/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "\n"
    process.send_signal(signal.SIGTERM)
    process.communicate()

    assert process.returncode == 130
    assert record()["status"] == "interrupted"


def test_a_second_process_is_refused(small):
    """One clear message and exit code 2, and the first is not disturbed."""
    process = started()
    (folder,) = Path("runs").glob("small/*")
    done = subprocess.run([*COMMAND, "resume", "latest"], capture_output=True, text=True, check=False)
    again = subprocess.run(
        [*COMMAND, "run", "small.toml", "checkpoint.resume=auto"],
        capture_output=True,
        text=True,
        check=False,
    )
    process.kill()
    process.communicate()

    for refused in (done, again):
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"dovetail: {folder}: another process (pid {process.pid} on ")
        assert refused.stderr.count("\n") == 1
