"""`dovetail plugins`: list, describe, create and check."""

from __future__ import annotations

import json
import re

import pytest

from dovetail.cli import main
from installed import dovetail, install


def test_plugins_are_listed_with_their_parts(tmp_path):
    """Third-party plugins are listed beside Dovetail's own, without importing their parts."""
    install(tmp_path, "yourco", losses="raise RuntimeError('imported')")
    done = dovetail("plugins", "list", path=tmp_path)

    assert done.returncode == 0
    assert re.search(r"^yourco +1\.0 +yourco +loaded$", done.stdout, re.MULTILINE)
    assert re.search(r"^  yourco\.envelope +yourco +Error of the envelope\.$", done.stdout, re.MULTILINE)


def test_a_broken_plugin_is_listed_with_its_error(tmp_path):
    """The other plugins still work; only `--strict-plugins` makes the error fatal."""
    install(tmp_path, "yourco", "print('hello'); raise RuntimeError('no licence')")
    done = dovetail("plugins", "list", "--json", path=tmp_path)
    plugin = next(found for found in json.loads(done.stdout)["plugins"] if found["distribution"] == "yourco")

    assert (done.returncode, plugin["state"]) == (0, "broken")
    assert "no licence" in plugin["error"]

    strict = dovetail("plugins", "list", "--strict-plugins", path=tmp_path)
    assert strict.returncode == 2
    assert strict.stderr.splitlines() == [
        "dovetail: plugin 'yourco' of yourco failed to load (RuntimeError: no licence)"
    ]


def test_an_unknown_part_gets_a_suggestion(capsys):
    """The error suggests the part with the nearest name."""
    assert main(["plugins", "info", "focall"]) == 2
    assert capsys.readouterr().err == "dovetail: unknown part 'focall'; did you mean 'focal'?\n"


def test_a_plugin_is_created(tmp_path, capsys):
    """The output names the next steps; an existing folder and an invalid name are refused."""
    assert main(["plugins", "new", "yourco-losses", "--directory", str(tmp_path)]) == 0
    assert (tmp_path / "yourco-losses" / "pyproject.toml").is_file()
    assert "pip install -e '.[dev]'" in capsys.readouterr().out

    assert main(["plugins", "new", "yourco-losses", "-d", str(tmp_path)]) == 2
    assert main(["plugins", "new", "9", "-d", str(tmp_path)]) == 2


@pytest.mark.slow
def test_parts_are_checked_with_the_conformance_kit(tmp_path):
    """A correct part passes; a part that cannot be imported fails, with exit code 1."""
    assert dovetail("plugins", "check", "mse").returncode == 0

    install(tmp_path, "yourco", losses="raise ImportError('no fft')")
    done = dovetail("plugins", "check", "yourco", "--json", path=tmp_path)
    assert done.returncode == 1
    assert "no fft" in done.stdout


def test_check_says_how_to_install_the_kit(tmp_path):
    """Without hypothesis, the error is one line with the command to install it, and exit code 2."""
    (tmp_path / "hypothesis.py").write_text("raise ModuleNotFoundError(name='hypothesis')\n")
    done = dovetail("plugins", "check", "mse", path=tmp_path)

    assert done.returncode == 2
    assert done.stderr == "dovetail: the conformance kit needs an extra: pip install 'dovetail[testkit]'\n"
