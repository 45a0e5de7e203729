"""The live panel, on a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from places import TESTS


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_shows_a_panel(tmp_path, colour):
    """The panel has progress, losses with sparklines and the best metric; with NO_COLOR it has no colours."""
    pytest.importorskip("rich")
    code = f"""
import sys, time, types
sys.path.insert(0, {str(TESTS)!r})
from run_stub import a_run
from pathlib import Path
from dovetail.record.console import Console
run = a_run(Path({str(tmp_path)!r}), epoch=2)
console = Console(sys.stdout)
assert console.mode == "live"
console.dovetail_run_start(run)
for step in range(1, 21):
    run.state.step, run.state.samples_seen = step, step * 32
    console.dovetail_log("train", {{"train_loss": 2.0 / step, "lr": 0.1}})
run.state.best_metric, run.state.best_epoch, run.state.best_step = 0.25, 2, 20
console.dovetail_log("validation", {{"val_loss": 0.25, "val_accuracy": 0.9}})
console.dovetail_log("epoch", {{"train_loss": 0.3, "val_loss": 0.25}})
time.sleep(0.6)
console.dovetail_run_end()
"""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **({} if colour else {"NO_COLOR": "1"})}
    written = on_terminal([sys.executable, "-c", code], environment)

    assert "epoch 2/3" in written
    assert "step 20/30" in written
    assert "train loss 0.3" in written
    assert "█" in written
    assert "best val_loss 0.25 in epoch 2" in written
    assert "\x1b[2K" in written  # redrawn in place, and removed at the end
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", written)) == colour


def on_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Run a command on a pseudo-terminal and return its output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment, close_fds=True) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # on Linux, the other end is closed
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0, written.decode()
    return written.decode()
