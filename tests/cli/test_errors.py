"""How errors are reported: as lines or as JSON, with an exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dovetail.cli import main


@pytest.mark.parametrize(
    "arguments,expected",
    [
        (["rnu"], "dovetail: unknown command 'rnu'; did you mean 'run'?"),
        (["xyz"], "dovetail: unknown command 'xyz'; there is run, resume, init"),
        (["config", "chek"], "dovetail config: unknown command 'chek'; did you mean 'check'?"),
        (["run"], "dovetail run: missing argument 'FILE'"),
        (["run", "--jsno", "x.toml"], "dovetail run: no such option"),
        (["plugins", "list", "--kind", "los"], "there is no kind 'los'; did you mean 'loss'?"),
        (["completion", "powershell"], "is not one of 'bash', 'zsh', 'fish'"),
        (["runs", "list", "-n", "0"], "dovetail runs list: "),
    ],
)
def test_a_usage_error_suggests_a_correction(arguments, expected, capsys):
    """One line says what is wrong and one where to find help, on standard error, with exit code 2."""
    assert main(arguments) == 2
    output = capsys.readouterr()

    assert output.out == ""
    assert expected.lower() in output.err.lower()
    assert "--help'." in output.err
    assert len(output.err.splitlines()) == 2


@pytest.mark.parametrize("arguments", [["run", "--json"], ["nonsense", "--json"], ["runs", "show", "x", "--json"]])
def test_any_error_can_be_json(arguments, capsys, tmp_path, monkeypatch):
    """With `--json`, usage errors and missing runs are JSON documents too."""
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 2
    assert json.loads(capsys.readouterr().out)["error"]


def test_ctrl_c_is_exit_code_130(monkeypatch, capsys):
    """Ctrl-C at any point prints one word and no traceback."""
    monkeypatch.setattr("dovetail.record.runs.find_runs", _interrupt)

    assert main(["runs", "list"]) == 130
    assert "interrupted" in capsys.readouterr().err


def _interrupt(_output: object) -> None:
    raise KeyboardInterrupt


def test_a_bug_shows_its_traceback(monkeypatch, capsys):
    """An unexpected exception gives exit code 1, a traceback on standard error, and one document with `--json`."""
    monkeypatch.setattr("dovetail.record.runs.find_runs", _fail)

    assert main(["runs", "list", "--json"]) == 1
    output = capsys.readouterr()
    assert "Traceback" in output.err
    assert "ZeroDivisionError: surprise" in json.loads(output.out)["error"]


def _fail(_output: object) -> None:
    raise ZeroDivisionError("surprise")


def test_a_closed_pipe_is_no_error():
    """`dovetail --help | head -c 0` exits without a traceback."""
    command = f'{sys.executable} -c "import sys; from dovetail.cli import main; sys.exit(main())" --help | head -c 0'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert "Traceback" not in done.stderr
