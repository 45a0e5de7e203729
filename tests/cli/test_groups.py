"""Commands from plugins."""

from __future__ import annotations

import re

import pytest

from installed import COMMAND, PLUGIN, dovetail, install


def test_a_plugin_can_add_a_command_but_not_replace_ours(tmp_path):
    """The command is listed in the help and runs; a plugin's command named `run` is ignored."""
    install(tmp_path, "yourco", PLUGIN, cli=COMMAND)
    install(tmp_path, "zz", PLUGIN.replace('"fleet"', '"run"').replace("yourco.", "zz."), cli=COMMAND)
    shown = dovetail("--help", path=tmp_path)

    assert re.search(r"fleet +Show the state of the fleet\.", shown.stdout)
    assert dovetail("fleet", "Pequod", path=tmp_path).stdout == "Pequod is at sea\n"
    assert "FILE" in dovetail("run", "--help", path=tmp_path).stdout


@pytest.mark.parametrize(
    "cli,expected",
    [
        ("raise ImportError('no aiohttp')", "cannot be imported: ImportError: no aiohttp"),
        ("fleet = 3", "is not a click command but a int"),
        ("", "cannot be imported: AttributeError"),
    ],
)
def test_a_command_that_cannot_be_loaded_names_its_plugin(tmp_path, cli, expected):
    """The error is one line that names the command and its plugin, with exit code 2."""
    install(tmp_path, "yourco", cli=cli)
    done = dovetail("fleet", "x", path=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("dovetail: command 'fleet' of yourco (yourco.cli:fleet)")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_from_two_plugins_is_ambiguous(tmp_path):
    """Calling it is an error that names both plugins; other commands work."""
    install(tmp_path, "yourco", cli=COMMAND)
    install(tmp_path, "zz", cli=COMMAND)
    done = dovetail("fleet", "x", path=tmp_path)

    assert done.returncode == 2
    assert "yourco 1.0 and zz 1.0" in done.stderr
    assert dovetail("--help", path=tmp_path).returncode == 0
