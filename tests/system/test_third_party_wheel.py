"""A third-party wheel and Dovetail's, in a fresh virtual environment: found, checked, and used in a run file."""

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
#: The files that a build of Dovetail reads.
SOURCES = ("LICENSE", "MANIFEST.in", "README.md", "csrc", "pyproject.toml", "setup.py", "src")

pytestmark = pytest.mark.slow


class Installation:
    """A virtual environment with both wheels, and a working folder."""

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
        _link_dependencies(
            Path(sysconfig.get_path("purelib", vars={"base": str(root / "venv")})), root / "dependencies"
        )

    def run(self, *command):
        """Run a program of the environment as a user would, and return the completed process."""
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
    """Copy the sources, so that nothing is built in the source tree."""
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
    # Without the CUDA ops, which take minutes to compile and have their own tests.
    environment = {**os.environ, "DOVETAIL_CUDA_ARCHS": "none"}
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(root), str(source), env=environment)
    (built,) = set(root.glob("*.whl")) - before
    return built


def _pip(*arguments, env=None):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env=env)


def _link_dependencies(site, links):
    """Make torch and other dependencies importable by links, without Dovetail and its plugins."""
    links.mkdir()
    for folder in (Path(path) for path in sys.path if path.endswith("site-packages")):
        for entry in folder.iterdir():
            ours = entry.name.lower().startswith(("dovetail", "__editable__")) or entry.suffix == ".pth"
            if not ours and not (links / entry.name).exists():
                (links / entry.name).symlink_to(entry)
    (site / "dependencies.pth").write_text(f"{links}\n")


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """Return an environment with both wheels installed."""
    return Installation(tmp_path_factory.mktemp("third_party"))


def test_the_wheels_are_imported(installation):
    """Both packages are imported from the environment, not from this source tree."""
    done = installation.run("python", "-c", "import dovetail, yourco; print(dovetail.__file__, yourco.__file__)")

    assert done.stdout.count(str(installation.bin.parent)) == 2, done.stderr


def test_plugins_are_listed(installation):
    """`plugins list` has the third-party package with its version and its parts."""
    done = installation.run("dovetail", "plugins", "list", "--json")

    document = json.loads(done.stdout)
    assert [(plugin["distribution"], plugin["version"], plugin["state"]) for plugin in document["plugins"]] == [
        ("dovetail", "0.1.0", "loaded"),
        ("yourco", "1.2.0", "loaded"),
    ]
    assert {(part["kind"], part["name"]) for part in document["parts"] if part["distribution"] == "yourco"} == {
        ("loss", "yourco.generalised"),
        ("scheduler", "yourco.sawtooth"),
        ("storage", "yourco.vault"),
    }


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"], ["run", "--help"]], ids=" ".join)
def test_help_and_listing_do_not_import_torch(installation, arguments):
    """This holds with a third-party plugin installed."""
    code = (
        "import atexit, sys; atexit.register(lambda: sys.stderr.write(f\"torch={'torch' in sys.modules}\"));"
        "from dovetail.cli import main; sys.exit(main())"
    )

    done = installation.run("python", "-c", code, *arguments)

    assert done.returncode == 0
    assert done.stderr == "torch=False"


def test_the_third_party_parts_conform(installation):
    """Every part of the third-party package passes `plugins check`."""
    done = installation.run("dovetail", "plugins", "check", "yourco", "--json")

    parts = json.loads(done.stdout)["parts"]
    failed = [check for part in parts for check in part["checks"] if check["status"] == "failed"]
    assert [part["name"] for part in parts] == ["yourco.generalised", "yourco.sawtooth", "yourco.vault"]
    assert failed == []
    assert done.returncode == 0


def test_a_run_file_uses_all_third_party_parts(installation):
    """A run trains with the loss and the scheduler, and copies its checkpoints to the store."""
    done = installation.run("dovetail", "run", "run.toml", "--json")

    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["versions"]["plugins"] == {"dovetail": "0.1.0", "yourco": "1.2.0"}
    assert record["test"]["test_accuracy"] > 0.5
    (run,) = (path.parent for path in installation.folder.rglob("run.json"))
    _check_sawtooth(run)
    _check_store(installation.folder / "vault.db", run)


def _check_sawtooth(run):
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [event["metrics"]["lr"] for event in events if "lr" in event["metrics"]]
    assert rates
    assert all(0 <= rate <= 3e-3 for rate in rates)


def _check_store(vault, run):
    with sqlite3.connect(vault) as database:
        stored = dict(database.execute("SELECT key, content FROM objects"))
    database.close()
    checkpoints = {path.relative_to(run / "checkpoints") for path in run.glob("checkpoints/step-*/*")}
    assert checkpoints
    for path in checkpoints:
        (content,) = (content for key, content in stored.items() if key.endswith(path.as_posix()))
        assert content == (run / "checkpoints" / path).read_bytes()


def test_a_missing_version_is_one_line(installation):
    """If a run file requires a later version, the error is one line with the command to install it, and exit code 2."""
    done = installation.run("dovetail", "run", "run.toml", 'plugins.require=["yourco>=9"]')

    assert done.returncode == 2
    assert "yourco 1.2.0 is installed; pip install 'yourco>=9'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_without_the_plugin_names_the_missing_part(installation):
    """With the plugin blocked, the error names the missing part."""
    done = installation.run("dovetail", "run", "run.toml", "--no-plugins=yourco")

    assert done.returncode == 2
    assert "yourco" in done.stderr
    assert "Traceback" not in done.stderr
