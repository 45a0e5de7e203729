"""The run files of PINNs in ``examples/`` work as they are, in their short form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dovetail.cli import main

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "pinn").glob("*.toml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_in_its_short_form(path, tmp_path, monkeypatch, capsys):
    """With the profile ci_fast it goes through both phases, ends as completed, and draws where it has a solution."""
    monkeypatch.chdir(tmp_path)

    assert main(["run", str(path), "--profile", "ci_fast", "--json", "hardware.threads=1"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    (folder,) = (found for found in tmp_path.glob("runs/*/*") if found.is_dir())
    record = json.loads((folder / "run.json").read_text())
    assert outcome["status"] == "completed"
    assert record["steps"] == 12
    assert (folder / "pictures").is_dir() == ("test_relative_l2" in record["test"])


def test_there_are_examples():
    """The folder is where this test looks for it."""
    assert {path.stem for path in EXAMPLES} == {"burgers", "burgers_precise", "heat", "kdv", "schrodinger"}
