"""A stranger's wheel beside Dovetail's, in a fresh virtual environment: found, checked, and run from a TOML file."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from places import ROOT

YOURCO = Path(__file__).parent / "third_party" / "yourco"
#: What a build of Dovetail reads.
SOURCES = ("LICENSE", "MANIFEST.in", "README.md", "csrc", "pyproject.toml", "setup.py", "src")

pytestmark = pytest.mark.slow


class Installation:
    """A virtual environment with both wheels, and a folder to work in."""

    def __init__(self, root):
        self.bin = root / "venv" / "bin"
        self.folder = root / "work"
        self.folder.mkdir()
        shutil.copy(YOURCO / "run.toml", self.folder)
        venv.create(root / "venv", with_pip=False)
        wheels = (
            _wheel(_sources(ROOT, root / "dovetail", SOURCES), root),
            _wheel(_sources(YOURCO, root / "yourco", ("pyproject.toml", "src")), root),
        )
        _pip("--python", str(self.bin / "python"), "install", "--no-deps", "--no-index", *map(str, wheels))
        _share_dependencies(Path(sysconfig.get_path("purelib", vars={"base": str(root / "venv")})), root / "shared")

    def run(self, *command):
        """Run a program of the environment, as a user would; returns what became of it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOVETAIL", "PYTHON"))}
        environment = {**kept, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        program, *arguments = command
        return subprocess.run(
            [str(self.bin / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
        )


def _sources(origin, target, names):
    """Copy what a build reads, so that nothing of ours is built in place."""
    target.mkdir()
    ignore = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__", "build")
    for name in names:
        path = origin / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=ignore)
        else:
            shutil.copy(path, target / name)
    return target


def _wheel(source, root):
    before = set(root.glob("*.whl"))
    # Without the CUDA half, whose compilation takes minutes where there is an nvcc: it has tests of its own.
    environment = {**os.environ, "DOVETAIL_CUDA_ARCHS": "none"}
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(root), str(source), env=environment)
    (built,) = set(root.glob("*.whl")) - before
    return built


def _pip(*arguments, env=None):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env=env)


def _share_dependencies(site, shared):
    """Make torch and the rest importable by links, without Dovetail's own distribution or any plugin of ours."""
    shared.mkdir()
    for folder in (Path(path) for path in sys.path if path.endswith("site-packages")):
        for entry in folder.iterdir():
            ours = entry.name.lower().startswith(("dovetail", "__editable__")) or entry.suffix == ".pth"
            if not ours and not (shared / entry.name).exists():
                (shared / entry.name).symlink_to(entry)
    (site / "shared.pth").write_text(f"{shared}\n")


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """Both wheels, installed."""
    return Installation(tmp_path_factory.mktemp("third_party"))


def test_dovetail_is_the_wheel(installation):
    """What is imported comes from the wheel, and not from this source tree."""
    done = installation.run("python", "-c", "import dovetail, yourco; print(dovetail.__file__, yourco.__file__)")

    assert done.stdout.count(str(installation.bin.parent)) == 2, done.stderr


def test_plugins_are_listed(installation):
    """``plugins list`` shows the stranger's package beside ours, with its version and its parts."""
    done = installation.run("dovetail", "plugins", "list", "--json")

    document = json.loads(done.stdout)
    assert [(one["distribution"], one["version"], one["state"]) for one in document["plugins"]] == [
        ("dovetail", "0.1.0", "loaded"),
        ("yourco", "1.2.0", "loaded"),
    ]
    assert {(one["kind"], one["name"]) for one in document["parts"] if one["distribution"] == "yourco"} == {
        ("loss", "yourco.generalised"),
        ("scheduler", "yourco.sawtooth"),
        ("storage", "yourco.vault"),
    }


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"], ["run", "--help"]], ids=" ".join)
def test_nothing_light_imports_torch(installation, arguments):
    """Help and listing never import torch, with a stranger's plugin installed."""
    code = (
        "import atexit, sys; atexit.register(lambda: sys.stderr.write(f\"torch={'torch' in sys.modules}\"));"
        "from dovetail.cli import main; sys.exit(main())"
    )

    done = installation.run("python", "-c", code, *arguments)

    assert done.returncode == 0
    assert done.stderr == "torch=False"


def test_its_parts_conform(installation):
    """Every part of the stranger's package passes the kit, without pytest."""
    done = installation.run("dovetail", "plugins", "check", "yourco", "--json")

    parts = json.loads(done.stdout)["parts"]
    failed = [one for part in parts for one in part["checks"] if one["status"] == "failed"]
    assert [part["name"] for part in parts] == ["yourco.generalised", "yourco.sawtooth", "yourco.vault"]
    assert failed == []
    assert done.returncode == 0


def test_a_run_file_uses_all_three(installation):
    """A run from TOML trains with the loss and the scheduler, and copies its checkpoints into the store."""
    done = installation.run("dovetail", "run", "run.toml", "--json")

    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["versions"]["plugins"] == {"dovetail": "0.1.0", "yourco": "1.2.0"}
    assert record["test"]["test_accuracy"] > 0.5
    (run,) = (path.parent for path in installation.folder.rglob("run.json"))
    _sawtooth_was_followed(run)
    _store_holds_what_the_run_holds(installation.folder / "vault.db", run)


def _sawtooth_was_followed(run):
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [one["metrics"]["lr"] for one in events if "lr" in one["metrics"]]
    assert rates
    assert all(0 <= rate <= 3e-3 for rate in rates)


def _store_holds_what_the_run_holds(vault, run):
    with sqlite3.connect(vault) as database:
        stored = dict(database.execute("SELECT key, content FROM objects"))
    database.close()
    checkpoints = {path.relative_to(run / "checkpoints") for path in run.glob("checkpoints/step-*/*")}
    assert checkpoints
    for path in checkpoints:
        (content,) = (content for key, content in stored.items() if key.endswith(path.as_posix()))
        assert content == (run / "checkpoints" / path).read_bytes()


def test_a_demand_that_is_not_met_is_one_line(installation):
    """A run file that asks for a later version of the stranger's package says what to install, with exit code 2."""
    done = installation.run("dovetail", "run", "run.toml", 'plugins.require=["yourco>=9"]')

    assert done.returncode == 2
    assert "yourco 1.2.0 is installed; pip install 'yourco>=9'" in done.stderr
    assert "Traceback" not in done.stderr


def test_blocking_it_says_where_its_parts_are(installation):
    """With the plugin blocked, the run names the part that it misses."""
    done = installation.run("dovetail", "run", "run.toml", "--no-plugins=yourco")

    assert done.returncode == 2
    assert "yourco" in done.stderr
    assert "Traceback" not in done.stderr
