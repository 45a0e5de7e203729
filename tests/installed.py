"""Distributions that a subprocess sees as installed: folders of metadata and modules for ``PYTHONPATH``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLUGIN = """
from dovetail import Component, hookimpl

@hookimpl
def dovetail_losses():
    yield Component("yourco.envelope", "yourco.losses:Envelope", summary="Error of the envelope.")

@hookimpl
def dovetail_commands():
    yield Component("fleet", "yourco.cli:fleet", summary="Show the state of the fleet.")

@hookimpl
def dovetail_profiles():
    yield Component("nightly", "yourco.profiles:nightly", summary="Long runs.")
"""
COMMAND = """
import click

@click.command()
@click.argument("ship")
def fleet(ship):
    "Show the state of the fleet."
    click.echo(f"{ship} is at sea")
"""


def install(folder: Path, name: str, plugin: str = PLUGIN, **modules: str) -> None:
    """Write a distribution ``name`` 1.0 with a plugin module and further modules into ``folder``."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[dovetail]\n{name} = {name}.plugin\n", encoding="utf-8")
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    for module, text in {"plugin": plugin, **modules}.items():
        (package / f"{module}.py").write_text(text, encoding="utf-8")


def dovetail(*arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a subprocess, with the distributions in ``path`` installed."""
    variables = {**os.environ, "PYTHONPATH": str(path) if path else "", **environment}
    return subprocess.run(
        [sys.executable, "-c", "import sys; from dovetail.cli import main; sys.exit(main())", *arguments],
        capture_output=True,
        text=True,
        env=variables,
        check=False,
    )
