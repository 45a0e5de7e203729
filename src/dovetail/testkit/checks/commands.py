"""Commands of the ``dovetail`` console."""

from __future__ import annotations

import click
from click.testing import CliRunner

from dovetail.testkit.registry import check, expect
from dovetail.testkit.subject import Subject


@check("command")
def is_a_click_command(subject: Subject) -> None:
    """The target is a click command."""
    component = subject.registered.component
    loaded = component.load()
    expect(
        isinstance(loaded, click.Command),
        f"{component.target} is a {type(loaded).__name__}, not a click.Command; decorate it with @click.command()",
    )


@check("command")
def helps(subject: Subject) -> None:
    """``--help`` works and describes the command."""
    command = subject.registered.component.load()
    expect(command.help, "it has no help text; write a docstring")
    result = CliRunner().invoke(command, ["--help"])
    expect(result.exit_code == 0, f"--help exits with {result.exit_code}: {result.output}")
