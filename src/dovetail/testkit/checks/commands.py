"""Commands: part of somebody's console."""

from __future__ import annotations

import click
from click.testing import CliRunner

from dovetail.testkit.registry import check, expect
from dovetail.testkit.subject import Subject


@check("command")
def is_a_click_command(subject: Subject) -> None:
    """The target is a click command."""
    found = subject.registered.component.load()
    expect(
        isinstance(found, click.Command),
        f"{subject.registered.component.target} is {type(found).__name__}, not a click.Command",
    )


@check("command")
def helps(subject: Subject) -> None:
    """``--help`` works and says what the command does."""
    command = subject.registered.component.load()
    expect(command.help, "it has no help text: write a docstring")
    done = CliRunner().invoke(command, ["--help"])
    expect(done.exit_code == 0, f"--help exits with {done.exit_code}: {done.output}")
