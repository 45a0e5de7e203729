"""All trackers: the conformance kit, the start of the console, and the public API."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dovetail
import dovetail_trackers
from dovetail.testkit import conformance


@pytest.mark.slow
@conformance("trackers.tensorboard")
def test_tensorboard(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("trackers.mlflow")
def test_mlflow(check):
    """Every check of the kit holds."""
    check()


@pytest.mark.slow
@conformance("trackers.wandb")
def test_wandb(check):
    """Every check of the kit holds."""
    check()


LIBRARIES = {"torch", "numpy", "tensorboard", "mlflow", "sqlalchemy", "wandb"}
PROBE = """
import json, sys
from dovetail.cli import main
code = main(sys.argv[1:])
sys.stderr.write("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize(
    "command", [["--help"], ["run", "--help"], ["plugins", "list"], ["plugins", "list", "--json"]], ids=" ".join
)
def test_the_console_imports_no_library(command):
    """With this package installed, help and lists import neither torch nor a tracker's library."""
    done = subprocess.run([sys.executable, "-c", PROBE, *command], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])

    assert code == 0
    assert LIBRARIES.isdisjoint(modules)
    assert "list" not in command or "dovetail-trackers" in done.stdout


def test_only_public_names_of_dovetail_are_imported():
    """Modules import from Dovetail only names in `dovetail.__all__`."""
    imported = [
        (node.module, name.name)
        for path in Path(dovetail_trackers.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dovetail"
        for name in node.names
    ]

    assert imported
    assert [name for name in imported if name[0] != "dovetail" or name[1] not in dovetail.__all__] == []
