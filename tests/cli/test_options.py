"""Options that several commands have."""

from __future__ import annotations

import pytest

from dovetail.cli import main
from installed import dovetail, install
from places import EXAMPLES

DIGITS = str(EXAMPLES / "digits.toml")


def test_a_second_profile_is_refused(capsys):
    """Two profiles are an error, instead of the last one being used silently."""
    assert main(["config", "show", DIGITS, "--profile", "ci_fast", "-p", "production"]) == 2
    assert "only one profile can be used, not both ci_fast and production" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--no-plugins"], ["--no-plugins=yourco"], ["--no-plugins", "--json"]])
def test_plugins_can_be_blocked(tmp_path, arguments):
    """`--no-plugins` blocks all plugins, or those it names, before they are imported."""
    install(tmp_path, "yourco", "raise RuntimeError('imported')")
    done = dovetail("plugins", "list", *arguments, path=tmp_path)

    assert done.returncode == 0
    assert "blocked" in done.stdout
    assert "imported" not in done.stdout


def test_no_plugins_does_not_take_the_next_argument():
    """The run file after a bare `--no-plugins` is still the run file, although click would read it as the value."""
    assert main(["config", "show", "--no-plugins", DIGITS]) == 0
