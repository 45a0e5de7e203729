"""Tests of the package that ``dovetail plugins new`` writes: it installs, passes its tests, lints and trains."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from dovetail.kernel.component import PluginError
from dovetail.testkit.template import write_plugin

#: The program of the console command.
CONSOLE = "import sys; from dovetail.cli import main; sys.exit(main())"


def test_it_writes_a_package(tmp_path):
    """The folder contains a package with its entry point, its tests and a run file, and no other file remains."""
    folder = write_plugin("Yourco-Losses", tmp_path / "plugins")

    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert folder == tmp_path / "plugins" / "Yourco-Losses"
    assert written == [
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "run.toml",
        "src/yourco_losses/__init__.py",
        "src/yourco_losses/losses.py",
        "src/yourco_losses/plugin.py",
        "src/yourco_losses/py.typed",
        "src/yourco_losses/schedulers.py",
        "tests/test_conformance.py",
    ]
    assert list(folder.parent.iterdir()) == [folder]
    assert "${" not in "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["dovetail"] == {"yourco_losses": "yourco_losses.plugin"}


def test_first_party_names_lose_their_prefix(tmp_path):
    """Component names of dovetail-thermal start with thermal., as those of every first-party plugin do."""
    folder = write_plugin("dovetail-thermal", tmp_path)

    assert '"thermal.poly"' in (folder / "src/dovetail_thermal/plugin.py").read_text()


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "not a valid package name"),
        ("../yourco", "not a valid package name"),
        ("yourco losses", "not a valid package name"),
        ("1st", "not a valid package name"),
        ("yourco-", "not a valid package name"),
        ("firmenübersicht", "not a valid package name"),
        ("x" * 61, "at most 60 characters"),
        ("class", "Python itself uses"),
        ("json", "Python itself uses"),
        ("torch", "already installed"),
        ("Dovetail", "already installed"),
    ],
)
def test_an_invalid_name_is_an_error(tmp_path, name, message):
    """The message says why, and nothing is written."""
    with pytest.raises(PluginError, match=message):
        write_plugin(name, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_unchanged(tmp_path):
    """A folder with files is an error and remains unchanged; an empty folder is filled."""
    (tmp_path / "yourco").mkdir()
    write_plugin("yourco", tmp_path)
    (tmp_path / "yourco" / "README.md").write_text("mine")

    with pytest.raises(PluginError, match="exists already"):
        write_plugin("yourco", tmp_path)

    assert (tmp_path / "yourco" / "README.md").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    """The message names the path if a file is in the way."""
    (tmp_path / "file").write_text("")

    with pytest.raises(PluginError, match="cannot be written"):
        write_plugin("yourco", tmp_path / "file")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the folder of a package from the template and the Python of an environment with it installed."""
    root = tmp_path_factory.mktemp("template")
    folder = write_plugin("yourco-losses", root)
    venv.create(root / "venv", with_pip=False)
    python = root / "venv" / "bin" / "python"
    # Torch and the tools come from this environment: installing them would take gigabytes and a network.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(root / "venv")}))
    (site / "shared.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in _site_folders()))
    _pip("--python", str(python), "install", "--no-deps", "--no-index", "--no-build-isolation", "-e", str(folder))
    return folder, python


def _pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def _site_folders():
    return [path for path in sys.path if path.endswith("site-packages")]


def _run(installed, *command):
    folder, python = installed
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DOVETAIL"))}
    return subprocess.run(
        [str(python), *command], check=False, capture_output=True, text=True, cwd=folder, env=environment
    )


@pytest.mark.slow
def test_it_passes_its_own_conformance_tests(installed):
    """``pytest`` passes without changes, with one test per check."""
    result = _run(installed, "-m", "pytest", "-p", "no:cacheprovider", "-v")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "test_poly[loss.gradient_reaches_the_logits] PASSED" in result.stdout
    assert "test_inverse_sqrt[scheduler.state_round_trips_at_any_step] PASSED" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("tool", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join)
def test_it_lints(installed, tool):
    """Ruff and mypy (strict) pass with the package's own settings."""
    result = _run(installed, "-m", *tool)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_its_descriptor_is_light(installed):
    """Listing plugins shows its components and imports neither its losses nor torch."""
    code = f"import atexit, sys; atexit.register(lambda: sys.stderr.write(str('torch' in sys.modules))); {CONSOLE}"

    result = _run(installed, "-c", code, "plugins", "list", "--json")

    names = {part["name"] for part in json.loads(result.stdout)["parts"]}
    assert {"yourco_losses.poly", "yourco_losses.inverse_sqrt"} <= names
    assert result.stderr.strip() == "False"


@pytest.mark.slow
def test_its_run_file_trains(installed):
    """``dovetail run run.toml`` trains with the package's loss and scheduler, and learns the digits."""
    folder, _ = installed

    result = _run(installed, "-c", CONSOLE, "run", "run.toml", "--json")

    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["test"]["test_accuracy"] > 0.9
    assert "inverse_sqrt" in next(folder.rglob("resolved.toml")).read_text()


@pytest.mark.slow
def test_plugins_check_passes(installed):
    """``dovetail plugins check`` passes the same checks without pytest."""
    result = _run(installed, "-c", CONSOLE, "plugins", "check", "yourco-losses")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "yourco_losses.poly" in result.stdout


@pytest.mark.slow
def test_a_wheel_can_be_built(installed, tmp_path):
    """The package builds into a wheel."""
    folder, _ = installed
    copy = shutil.copytree(folder, tmp_path / "copy")

    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(copy))

    assert list(tmp_path.glob("yourco_losses-0.1.0-py3-none-any.whl"))
