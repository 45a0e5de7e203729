"""`dovetail init` and `dovetail config`: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from dovetail.cli import main
from places import EXAMPLES

DIGITS = str(EXAMPLES / "digits.toml")


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Path:
    """Return a run file with three problems, in the current folder."""
    monkeypatch.chdir(tmp_path)
    text = Path(DIGITS).read_text(encoding="utf-8")
    text = text.replace("warmup = 0.1 ", "warmup = 3.0 ").replace('type = "cnn"', 'type = "cnm"')
    Path("broken.toml").write_text(text.replace("lr = 2e-3", "lrr = 2e-3"), encoding="utf-8")
    return Path("broken.toml")


@pytest.mark.parametrize("command", [["config", "check"], ["run"], ["run", "--dry-run"]])
def test_all_problems_of_a_run_file_are_reported_at_once(broken, command, capsys):
    """Each problem is one line with file, line, column and path; the exit code is 2; there is no traceback."""
    assert main([*command, str(broken), "training.precision=fp8"]) == 2
    output = capsys.readouterr()

    assert output.out == ""
    assert "Traceback" not in output.err
    lines = output.err.splitlines()
    assert len(lines) == 4
    for line, expected in zip(lines, ["model.type", "optimizer.lrr", "scheduler.warmup"], strict=False):
        assert re.match(rf"broken\.toml:\d+:\d+: {re.escape(expected)}: ", line)
    assert lines[3].startswith("command line, argument 1: training.precision: ")
    assert not Path("runs").exists()


def test_a_missing_file_is_named(tmp_path, monkeypatch, capsys):
    """The message names the missing file and suggests one with a similar name."""
    monkeypatch.chdir(tmp_path)
    Path("digits.toml").write_text("")

    assert main(["config", "show", "digit.toml"]) == 2
    assert capsys.readouterr().err == "digit.toml: no such file or directory; did you mean 'digits.toml'?\n"


def test_show_prints_toml(capsys):
    """The output is TOML with the content of the file and the overrides, without comments."""
    assert main(["config", "show", DIGITS, "run.notes=a 'b' \"c\"", "model.dropout=0.5"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    written = tomllib.loads(Path(DIGITS).read_text(encoding="utf-8"))
    written["run"]["notes"] = "a 'b' \"c\""
    written["model"]["dropout"] = 0.5

    assert shown == written


def test_each_value_is_shown_with_its_origin(capsys):
    """The origin is a place in a file, an argument of the command line, or the name of a profile."""
    assert main(["config", "show", DIGITS, "optimizer.lr=1e-4", "--origins", "--profile", "ci_fast"]) == 0
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())

    assert re.fullmatch(r".*digits\.toml:\d+:\d+", lines['model.type = "cnn"'])
    assert lines["optimizer.lr = 0.0001"] == "command line, argument 1"
    assert lines["training.max_steps = 20"] == "profile ci_fast (dovetail)"


def test_defaults_are_shown_on_request(capsys):
    """With `--defaults`, values that no file sets are shown, with the origin "default"."""
    assert main(["config", "show", DIGITS, "--defaults", "--json", "--origins"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert document["values"]["training"]["accumulate"] == 1
    assert document["origins"]["training.accumulate"] == "default"
    assert document["origins"]["model.type"].endswith(":8")


def test_a_checked_file_lists_its_parts(capsys):
    """Each part is listed with its distribution and the parameters the run provides, as text and as JSON."""
    assert main(["config", "check", DIGITS]) == 0
    output = capsys.readouterr().out

    assert output.startswith(f"{DIGITS}: ok\n")
    assert re.search(r"model +cnn +\(dovetail [\d.]+\) +the run provides .*num_classes", output)

    assert main(["config", "check", DIGITS, "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {"path": "loss", "name": "cross_entropy"}.items() <= next(p for p in parts if p["path"] == "loss").items()


def test_the_schema_names_installed_parts(capsys):
    """The output is a JSON schema with the names of the installed parts."""
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)

    assert "$schema" in schema
    assert '"cross_entropy"' in json.dumps(schema)


def test_default_files_are_written_once(tmp_path, capsys):
    """The default files pass `config check`, and are never overwritten."""
    assert main(["config", "defaults", str(tmp_path / "mine")]) == 0
    written = capsys.readouterr().out.split()

    assert main(["config", "check", written[0]]) == 0
    assert main(["config", "defaults", str(tmp_path / "mine")]) == 2


def test_init_writes_the_first_example(tmp_path, monkeypatch, capsys):
    """`init` writes examples/digits.toml; it replaces an existing file only with `--force`."""
    monkeypatch.chdir(tmp_path)

    assert main(["init"]) == 0
    assert Path("digits.toml").read_text() == Path(DIGITS).read_text()
    assert "dovetail run digits.toml" in capsys.readouterr().out

    Path("digits.toml").write_text("mine")
    assert main(["init"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert Path("digits.toml").read_text() == "mine"
    assert main(["init", "--force"]) == 0
    assert main(["init", "no/such/folder.toml"]) == 2


def test_problems_are_one_json_document(broken, capsys):
    """With `--json`, problems are a document on standard output, with lines and columns as numbers."""
    assert main(["run", str(broken), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)

    assert set(document) == {"error", "problems"}
    first = document["problems"][0]
    assert (first["file"], first["path"], type(first["line"])) == ("broken.toml", "model.type", int)
