"""Shell completion: the scripts, and what they complete."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dovetail.cli import main
from run_folders import write_run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_accepted_by_their_shells(shell, tmp_path, capsys):
    """Each script is valid in its shell, if that shell is installed."""
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", str(script)], check=False, capture_output=True).stderr == b""


@pytest.mark.parametrize(
    "words,expected",
    [
        (["ru"], "run runs"),
        (["run", "exa"], "examples/"),
        (["run", "examples/digits.t"], "examples/digits.toml"),
        (["run", "f.toml", "training.max_e"], "training.max_epochs="),
        (["run", "f.toml", "model.type=ml"], "model.type=mlp"),
        (["run", "f.toml", "model.type", "=", "ml"], "mlp"),
        (["run", "f.toml", "training.precision", "=", "b"], "bf16"),
        (["run", "f.toml", "checkpoint.best_only=t"], "checkpoint.best_only=true"),
        (["run", "f.toml", "scheduler.type=warmup_"], "scheduler.type=warmup_cosine scheduler.type=warmup_linear"),
        (["run", "f.toml", "callbacks.x.type=early"], "callbacks.x.type=early_stopping"),
        (["run", "f.toml", "no.such="], ""),
        (["run", "f.toml", "--profile", "ci"], "ci_fast"),
        (["run", "mine.toml", "--profile", "sl"], "slow"),
        (["plugins", "info", "foc"], "focal"),
        (["plugins", "list", "--kind", "sch"], "scheduler"),
        (["runs", "list", "--status", "comp"], "completed"),
        (["runs", "show", "lat"], "latest"),
        (["runs", "show", "2026"], "2026-11-20T15-36-00-3f9c1a"),
        (["config", "s"], "show schema"),
    ],
    ids=str,
)
def test_values_are_completed(words, expected, tmp_path, monkeypatch, capsys):
    """Commands, files, settings, their values, profiles, parts, statuses and runs are completed."""
    monkeypatch.chdir(tmp_path)
    Path("examples").mkdir()
    Path("examples/digits.toml").touch()
    Path("examples/digits.txt").touch()
    Path("mine.toml").write_text("[profile.slow]\n")
    write_run(tmp_path / "runs")
    monkeypatch.setenv("_DOVETAIL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["dovetail", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))

    with pytest.raises(SystemExit):
        main([])
    found = {line.partition(",")[2] for line in capsys.readouterr().out.split()}

    assert found == set(expected.split())
