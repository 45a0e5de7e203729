"""The top of the command line: help, version, groups."""

from __future__ import annotations

import re

import click
import pytest

from dovetail import __version__
from dovetail.cli import main
from dovetail.cli.app import COMMANDS, app


def every_command() -> list[tuple[str, ...]]:
    """Return the words of each command and group of Dovetail."""

    def walk(command: click.Command, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        if not isinstance(command, click.Group):
            return [words]
        context = click.Context(command)
        inner = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [words, *(found for name, nested in inner if nested for found in walk(nested, (*words, name)))]

    return walk(app, ())


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_each_help_shows_an_example(words, capsys):
    """The help of every command and group has an example that starts with that command."""
    assert main([*words, "--help"]) == 0
    output = capsys.readouterr().out

    assert "Example" in output
    assert f"dovetail {' '.join(words)}".strip() in output.partition("Example")[2]


def test_each_help_line_matches_its_command(capsys):
    """The table for `--help` has the same line as the command's own short help."""
    context = click.Context(app)
    for name, (_, line) in COMMANDS.items():
        command = app.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(200) == line


def test_the_exit_codes_are_documented(capsys):
    """The main help lists all exit codes."""
    main(["--help"])
    output = capsys.readouterr().out

    assert all(re.search(rf"^ +{code} ", output, re.MULTILINE) for code in (0, 1, 2, 3, 130))


def test_the_version_is_printed(capsys):
    """`--version` prints one plain line, for scripts."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dovetail {__version__}\n"


@pytest.mark.parametrize("group", ["config", "runs", "plugins"])
def test_a_group_alone_shows_its_help(group, capsys):
    """A group without a command prints its help on standard error, with exit code 2."""
    assert main([group]) == 2
    output = capsys.readouterr()

    assert output.out == ""
    assert output.err.startswith(f"Usage: dovetail {group} [OPTIONS] COMMAND")
    assert f"\n  Examples:\n    dovetail {group} " in output.err
