"""Runs that are killed at random moments: a short run of the benchmark."""

from __future__ import annotations

import subprocess
import sys

import pytest

from places import ROOT


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_runs_lose_nothing_and_have_identical_results():
    """After 20 SIGKILLs, every checkpoint verifies, none is lost, and the results are those of an uninterrupted run."""
    script = ROOT / "benchmarks" / "kill.py"
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "20", "--print-only"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("| **all** |")
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].split("|")]
    assert cells[3] == "20"
    assert cells[5:7] == ["0", "0"]
