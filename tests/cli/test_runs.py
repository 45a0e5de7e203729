"""`dovetail runs`: list, show and compare."""

from __future__ import annotations

import json
import re

import pytest

from dovetail.cli import main
from run_folders import write_run


@pytest.fixture
def output(tmp_path) -> str:
    """Return a folder with two runs."""
    write_run(tmp_path, "2026-11-20T15-36-00-3f9c1a")
    write_run(tmp_path, "2026-11-20T15-40-00-aa9c1a", status="failed", reason="no", best=None, test={}, device="cuda")
    return str(tmp_path)


def test_runs_are_listed_newest_first(output, capsys):
    """The list has best, test and time, and can be filtered by name and status."""
    assert main(["runs", "list", "--output", output]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert [line.split()[:3] for line in lines[1:]] == [
        ["digits", "2026-11-20T15-40-00-aa9c1a", "failed"],
        ["digits", "2026-11-20T15-36-00-3f9c1a", "completed"],
    ]
    assert "val_loss 0.0385" in lines[2]
    assert "accuracy 98.06 %" in lines[2]

    assert main(["runs", "list", "-o", output, "--status", "completed", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main(["runs", "list", "-o", output, "--name", "other"]) == 0
    assert "there are no such runs" in capsys.readouterr().out


def test_a_run_is_shown(output, capsys):
    """`show` prints outcome, metrics with sparklines, folder, and the command that repeats the run."""
    assert main(["runs", "show", "3f9c1a", "--output", output]) == 0
    shown = capsys.readouterr().out

    assert re.search(r"train_loss +█.*▁ +1\.07", shown)
    assert f"dovetail run {output}/digits/2026-11-20T15-36-00-3f9c1a/resolved.toml" in shown
    assert re.search(r"test +loss 0\.05  accuracy 98\.06 %", shown)

    assert main(["runs", "show", "--json", "--output", output]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "failed"


def test_two_runs_are_compared(output, capsys):
    """`diff` prints what differs, by section; a run does not differ from itself."""
    assert main(["runs", "diff", "3f9", "aa9", "--output", output]) == 0
    shown = capsys.readouterr().out

    assert re.search(r"device +cpu +cuda", shown)
    assert re.search(r"test_accuracy +98\.06 % +—", shown)
    assert main(["runs", "diff", "3f9", "3f9", "-o", output]) == 0
    assert capsys.readouterr().out == "no differences\n"
    assert main(["runs", "diff", "3f9", "-o", output, "--json"]) == 0
    assert {"section": "run", "path": "device", "left": "cpu", "right": "cuda"} in json.loads(capsys.readouterr().out)[
        "differences"
    ]
