"""`dovetail resume`: what it prints and returns."""

from __future__ import annotations

from pathlib import Path

from dovetail.cli import main
from small_runs import only_run


def test_resuming_a_finished_run_does_nothing_and_names_it(small, capsys):
    """The message names the run, since `latest` may not be the expected one."""
    assert main(["run", "small.toml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["resume", "latest"]) == 0
    assert capsys.readouterr().out.startswith(
        f"nothing to do: {only_run(Path('runs'), 'small')} has already completed; "
    )
