"""Signals to runs: a checkpoint, the command that resumes, the exit code, and how a second signal kills."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dovetail.main import run
from dovetail.spec.process import handled_signals
from small_runs import only_run
from small_runs import small as small_run

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


@pytest.fixture
def small(tmp_path, monkeypatch) -> None:
    """Change to a folder with a run file whose run takes days."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{x},{60 - x},{'right' if x > 30 else 'left'}" for x in range(60)]
    Path("points.csv").write_text("x,y,side\n" + "\n".join(rows) + "\n", encoding="utf-8")
    Path("small.toml").write_text(RUN_FILE, encoding="utf-8")


def started(*arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start a run in a process group of its own, and wait until it trains."""
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_a_run_stopped_by_a_signal_can_be_resumed(small, number):
    """Even if the signal also reaches the loader's workers, as a Ctrl-C in a terminal does."""
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


@pytest.mark.slow
def test_a_run_saves_a_checkpoint_when_its_terminal_closes(small):
    """As when a connection breaks, and nothing can be printed any more."""
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


@pytest.mark.slow
def test_a_run_under_nohup_outlives_its_terminal(small):
    """Other signals stop it as usual."""
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


@pytest.mark.slow
def test_notices_do_not_count_as_a_first_signal(small):
    """Slurm's notice, sent twice, and its SIGTERM afterwards let the run save its checkpoint."""
    process = started()
    os.kill(process.pid, signal.SIGSTOP)  # so that all of them arrive before the run ends
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
        os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate()
    assert process.returncode == 130, err


@pytest.mark.slow
def test_a_second_ctrl_c_kills_the_process(small):
    """Even while it saves."""
    code = (
        "import sys, time; from dovetail.train.checkpoints import save;"
        "save.RunSaver.save = lambda *_: time.sleep(600);"
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
        time.sleep(0.1)  # sent too soon, it counts as a duplicate

    assert process.returncode == -signal.SIGINT
    process.communicate()


@pytest.mark.slow
def test_a_duplicate_signal_is_ignored(small):
    """As from `timeout`, which signals the process and its group. The time for duplicates ends with standard input."""
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


@pytest.mark.slow
def test_a_second_process_in_a_folder_is_refused(small):
    """With one message and exit code 2; the first process is not disturbed."""
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


class Signal:
    """Sends this process a signal in the third update, and notes the handlers."""

    def __init__(self, number: int) -> None:
        self.number, self.after = number, None

    def dovetail_batch_end(self, step: int) -> None:
        """Send it."""
        if step == 3:
            os.kill(os.getpid(), self.number)
        self.after = signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_handlers_are_installed_for_the_run_only(tmp_path, capfd, number):
    """After the first SIGTERM the default action is back, so that a second kills; SIGUSR1 is only a notice."""
    before = {each: signal.getsignal(each) for each in handled_signals()}
    sender = Signal(number)

    outcome = run(small_run(tmp_path, callbacks={"sender": sender}))

    assert (outcome.status, outcome.stopped_by) == ("interrupted", number.name)
    assert list((only_run(tmp_path) / "checkpoints").glob("step-00000003"))
    assert (sender.after == signal.SIG_DFL) == (number == signal.SIGTERM)
    hint = "; once more ends at once" if number == signal.SIGTERM else ""
    assert f"{number.name}: stopping with a checkpoint{hint}\n" in capfd.readouterr().err
    assert {each: signal.getsignal(each) for each in handled_signals()} == before


def test_a_run_outside_the_main_thread_handles_no_signals(tmp_path):
    """Python allows handlers in the main thread alone; the run trains all the same."""
    before, outcomes = signal.getsignal(signal.SIGTERM), []

    class Look:
        def dovetail_batch_end(self) -> None:
            assert signal.getsignal(signal.SIGTERM) == before

    thread = threading.Thread(target=lambda: outcomes.append(run(small_run(tmp_path, callbacks={"look": Look()}))))
    thread.start()
    thread.join()

    assert outcomes[0].status == "completed", outcomes[0].reason
