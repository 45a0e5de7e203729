"""Malformed run files, from tests/malformed/cases.toml: each is answered with its place and what was meant."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli

from dovetail.cli import main
from dovetail.config.api import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.spec.plugins import Plugins

TABLE: dict[str, Any] = tomli.loads((Path(__file__).parent / "malformed" / "cases.toml").read_text())
CASES: list[dict[str, Any]] = TABLE["case"]


@cache
def plugins() -> Plugins:
    """Dovetail's own parts, whatever else is installed."""
    return Plugins.discover(blocked=True)


def content(case: dict[str, Any]) -> bytes:
    """The bytes of run.toml."""
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "long" in case:
        long = case["long"]
        return f"{long.get('before', '')}{long['unit'] * long['times']}{long.get('after', '')}".encode()
    return (case["text"] if "text" in case else TABLE["preamble"] + case["add"]).encode()


@pytest.fixture(params=CASES, ids=lambda case: case["name"])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One entry of the table, its files in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_bytes(content(request.param))
    for name, text in request.param.get("also", {}).items():
        Path(name).write_text(text)
    return request.param


def assert_expected(lines: list[str], case: dict[str, Any]) -> None:
    """Assert that exactly the expected lines are said."""
    whole = [
        line[: len(expected) - 1] + "…" if expected.endswith("…") else line
        for line, expected in zip(lines, case["expect"], strict=False)
    ]

    assert [*whole, *lines[len(whole) :]] == case["expect"]


def test_there_are_enough() -> None:
    """The table has more than sixty cases, each with a name of its own and an answer."""
    assert len(CASES) > 60
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert all(case["expect"] for case in CASES)


def test_from_python(case: dict[str, Any]) -> None:
    """Loading and validating says it all, at the exact place; nothing else is raised."""
    try:
        config = Config.load("run.toml", case.get("profile"), case.get("overrides", ()), plugins=plugins())
        lines = [str(problem) for problem in config.validate()]
    except ConfigError as error:
        lines = str(error).splitlines()

    assert_expected(lines, case)


def test_from_the_command_line(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The command says the same on standard error, and ends with the code for bad input."""
    profile = ["--profile", case["profile"]] if "profile" in case else []

    code = main(["config", "check", "run.toml", *case.get("overrides", []), *profile, "--no-plugins"])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert_expected(err.splitlines(), case)
