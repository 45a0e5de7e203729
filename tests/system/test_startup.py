"""What the command line imports at startup: never torch, and very little for `--help`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from installed import COMMAND, install
from places import EXAMPLES
from run_folders import write_run

EXAMPLE = str(EXAMPLES / "digits.toml")
PROBE = """
import json, sys
from dovetail.cli import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""
HEAVY = {"torch", "numpy", "rich", "tomli", "pytest", "hypothesis", "importlib.metadata", "sqlite3"}


def modules_after(*arguments: str, path: Path, **environment: str) -> set[str]:
    """Return the modules that a process has imported after it ran a command, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(path), **environment},
        check=False,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stdout + done.stderr
    return set(modules)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with an installed third-party plugin; beside it is a folder runs with one run."""
    install(tmp_path / "site", "yourco", cli=COMMAND, profiles="def nightly():\n    return {}\n")
    write_run(tmp_path / "runs")
    return tmp_path / "site"


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["config", "--help"],
        ["plugins", "list"],
        ["plugins", "list", "--json"],
        ["config", "show", EXAMPLE],
        ["config", "show", EXAMPLE, "--origins", "--profile", "ci_fast", "training.max_epochs=3"],
        ["runs", "list", "--output", "RUNS"],
        ["runs", "show", "latest", "--output", "RUNS"],
        ["runs", "diff", "latest", "latest", "--output", "RUNS"],
        ["completion", "bash"],
        ["fleet", "Ahab"],
    ],
    ids=" ".join,
)
def test_commands_that_do_not_train_do_not_import_torch(site, command):
    """Listing, showing and completing never import torch or NumPy, even with a third-party plugin."""
    command = [str(site.parent / "runs") if word == "RUNS" else word for word in command]

    assert {"torch", "numpy"}.isdisjoint(modules_after(*command, path=site))


@pytest.mark.parametrize("word", ["", "training.", "model.type=", "loss.type=y", "training.precision="])
def test_completion_imports_no_torch(site, word):
    """Completing options, keys, parts and values never imports torch or NumPy."""
    asked = {"_DOVETAIL_COMPLETE": "zsh_complete", "COMP_WORDS": f"dovetail run {EXAMPLE} {word}", "COMP_CWORD": "3"}
    probe = """
import json, os, sys
from dovetail.cli import main
try:
    main([])
finally:
    sys.stderr.write(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site), **asked},
        check=False,
    )

    assert {"torch", "numpy"}.isdisjoint(json.loads(done.stderr.splitlines()[-1]))
    assert bool(done.stdout) or not word


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["run", "--help"], ["plugins", "--help"]])
def test_help_imports_very_little(tmp_path, command):
    """With only Dovetail's own plugin, help needs click and the table of commands."""
    modules = modules_after(*command, path=tmp_path, DOVETAIL_NO_PLUGINS="all")

    assert HEAVY.isdisjoint(modules)
    assert {name for name in modules if name.startswith("dovetail.")} <= {
        "dovetail.cli",
        "dovetail.cli.app",
        "dovetail.cli.completion",
        "dovetail.cli.errors",
        "dovetail.cli.groups",
        "dovetail.cli.options",
        "dovetail.cli.output",
        "dovetail.cli.plugins",
        "dovetail.cli.run",
        "dovetail.kernel",
        "dovetail.kernel.discovery",
        "dovetail.kernel.exports",
        "dovetail.spec",
        "dovetail.spec.process",
    }


def test_a_plugin_that_imports_torch_is_named(tmp_path):
    """`plugins list` says which plugin slows every command, and why."""
    install(tmp_path, "heavy", "import sys, types\nsys.modules['torch'] = types.ModuleType('torch')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from dovetail.cli import main; sys.exit(main())", "plugins", "list"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )

    assert "imports torch at import, which slows every command" in done.stdout


RUN = """
import json, sys, tempfile
import torch
from dovetail import Config
from dovetail.main import run
imported = "torch._dynamo" in sys.modules
torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    config = Config.from_dict({
        "data": {"type": torch.utils.data.TensorDataset(torch.randn(32, 4), torch.randint(3, (32,)))},
        "model": {"type": torch.nn.Linear(4, 3)},
        "loss": {"type": "cross_entropy"},
        "training": {"max_epochs": 1, "max_grad_norm": None},
        "hardware": {"device": "cpu"},
        "paths": {"output": folder},
        "report": {"enabled": False},
    })
    outcome = run(config.build())
outcome.check()
print(json.dumps([imported, sorted(sys.modules)]))
"""
#: Modules that a run imports only if it uses them, or if its config is a file.
OPTIONAL = {
    "dovetail.checkpoint.copier",
    "dovetail.checkpoint.weights",
    "dovetail.config.compose",
    "dovetail.config.document",
    "dovetail.config.formats",
    "dovetail.config.profiles",
    "dovetail.data.transforms",
    "dovetail.ops._frequency",
    "dovetail.ops._grad_norms",
    "dovetail.ops._physics",
    "dovetail.ops._sommerfeld",
    "dovetail.ops._spec_augment",
    "dovetail.record.resumable",
    "dovetail.record.report",
    "dovetail.record.runs",
    "dovetail.train.checkpoints.copy",
    "dovetail.train.ema",
    "dovetail.models.recompute",
    "dovetail.train.checks.dry_run",
    "dovetail.train.checkpoints.resume",
    "dovetail.distributed.sharding",
    "numpy.typing",
    "rich",
    "sqlite3",
    "tomli",
}


@pytest.mark.slow
def test_a_plain_run_imports_what_it_uses():
    """A new run from Python imports no module that reads files or runs, and no part that it does not use."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    compiler_with_dovetail, modules = json.loads(done.stdout.splitlines()[-1])

    assert not compiler_with_dovetail  # torch.optim imports it later
    assert OPTIONAL.intersection(modules) == set()
