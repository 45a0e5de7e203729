"""Tests of dovetail.config as a whole: malformed run files (malformed/cases.toml), each with its position and hint."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli

from dovetail import config
from dovetail.cli import main
from dovetail.config.api import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.spec.plugins import Plugins

TABLE: dict[str, Any] = tomli.loads((Path(__file__).parent / "malformed" / "cases.toml").read_text())
CASES: list[dict[str, Any]] = TABLE["case"]


@cache
def plugins() -> Plugins:
    """Return Dovetail's own components, whatever else is installed."""
    return Plugins.discover(blocked=True)


def content(case: dict[str, Any]) -> bytes:
    """Return the bytes of run.toml."""
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "long" in case:
        long = case["long"]
        return f"{long.get('before', '')}{long['unit'] * long['times']}{long.get('after', '')}".encode()
    return (case["text"] if "text" in case else TABLE["preamble"] + case["add"]).encode()


@pytest.fixture(params=CASES, ids=lambda case: case["name"])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return one entry of the table, with its files in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_bytes(content(request.param))
    for name, text in request.param.get("also", {}).items():
        Path(name).write_text(text)
    return request.param


def assert_expected(lines: list[str], case: dict[str, Any]) -> None:
    """Assert that the message has exactly the expected lines."""
    whole = [
        line[: len(expected) - 1] + "…" if expected.endswith("…") else line
        for line, expected in zip(lines, case["expect"], strict=False)
    ]

    assert [*whole, *lines[len(whole) :]] == case["expect"]


def test_there_are_enough() -> None:
    """The table has more than sixty cases, each with its own name and a message."""
    assert len(CASES) > 60
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert all(case["expect"] for case in CASES)


def test_from_python(case: dict[str, Any]) -> None:
    """Loading and validating report every problem at its position, and raise nothing else."""
    try:
        loaded = Config.load("run.toml", case.get("profile"), case.get("overrides", ()), plugins=plugins())
        lines = [str(problem) for problem in loaded.validate()]
    except ConfigError as error:
        lines = str(error).splitlines()

    assert_expected(lines, case)


def test_from_the_command_line(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the same on standard error, and exits with the code for invalid input."""
    profile = ["--profile", case["profile"]] if "profile" in case else []

    code = main(["config", "check", "run.toml", *case.get("overrides", []), *profile, "--no-plugins"])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert_expected(err.splitlines(), case)


def test_config_imports_no_torch() -> None:
    """No module of dovetail.config imports torch or numpy."""
    modules = [f"dovetail.config.{path.stem}" for path in Path(config.__file__).parent.glob("[!_]*.py")]
    code = f"import {', '.join(modules)}, sys; print({{'torch', 'numpy'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
