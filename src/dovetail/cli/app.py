"""The top of the command line: the table of commands, commands from plugins, and the last error handler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dovetail.cli.groups import LazyGroup, load_plugin_command, plugin_commands
from dovetail.cli.output import examples

#: Our own commands: the place and the help line of each. They are written here so that ``--help`` imports no command.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("dovetail.cli.run:run", "Train the model that a run file describes."),
    "resume": ("dovetail.cli.resume:resume", "Resume a run that was stopped or killed."),
    "init": ("dovetail.cli.config:init", "Write a run file that trains in under a minute, offline."),
    "config": ("dovetail.cli.config:config", "Check, show and describe run files."),
    "runs": ("dovetail.cli.runs:runs", "List, show and compare runs."),
    "checkpoints": ("dovetail.cli.checkpoints:checkpoints", "List, verify, prune and export checkpoints."),
    "plugins": ("dovetail.cli.plugins:plugins", "List, describe, check and create plugins."),
    "doctor": ("dovetail.cli.doctor:doctor", "Check the installation."),
    "completion": ("dovetail.cli.completion:completion", "Print the completion script for a shell."),
}

EPILOG = (
    examples(
        "dovetail init digits.toml", "dovetail run digits.toml training.max_epochs=30", "dovetail runs show latest"
    )
    + """

\b
Exit codes:
  0    success; a run completed or stopped early
  1    a run failed, or a check found a problem
  2    bad input: run file, usage, data, or a missing or broken plugin
  3    a run stopped because its budget was used up
  130  interrupted by Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2; a run has saved a checkpoint

\b
Environment:
  DOVETAIL_NO_PLUGINS=a,b   do not load these plugins ("all": all but Dovetail's own)
  DOVETAIL_NATIVE=0         do not use the native ops
  NO_COLOR=1                do not use colours on the console
"""
)


class App(LazyGroup):
    """The top-level group: our own commands, and commands from plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return our commands in the order of the table, then those from plugins."""
        return [*super().list_commands(ctx), *self._from_plugins()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; a plugin cannot replace one of ours."""
        found = super().get_command(ctx, cmd_name)
        if found is None and ":" not in cmd_name and cmd_name in self._from_plugins():
            return load_plugin_command(cmd_name)
        return found

    def help_line(self, name: str) -> str:
        """Return the help line of a command, without importing it."""
        return super().help_line(name) or self._from_plugins().get(name, "")

    def _from_plugins(self) -> dict[str, str]:
        return {name: line for name, line in plugin_commands().items() if name not in self.lazy}


@click.group(
    cls=App,
    lazy=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _parameter, value: _print_version(ctx) if value else None,
    help="Show the version and exit.",
)
def app() -> None:
    """Train models from TOML run files, with parts from plugins."""


def _print_version(ctx: click.Context) -> None:
    from dovetail import __version__

    click.echo(f"dovetail {__version__}")
    ctx.exit()


def run_app(argv: list[str]) -> int:
    """Run the command line and return its exit code. Every error ends here, as a message."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    try:
        result: Any = app.main(argv, prog_name="dovetail", standalone_mode=False, obj=argv)
    except Exception as error:  # noqa: BLE001 (the last handler: no error may reach the user as a bare traceback)
        from dovetail.cli.errors import report_error
        from dovetail.distributed.environment import rank_and_size

        # Only rank 0 may write to standard output; the supervisor shows what the other ranks print.
        return report_error(error, as_json="--json" in options and rank_and_size()[0] == 0)
    return result if isinstance(result, int) else 0
