"""The top of the command line: its commands, found without importing them, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dovetail.cli.lazy import LazyGroup
from dovetail.cli.text import examples

#: Our own commands: where each lives, and the line about it, written here so that ``--help`` imports none of them.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("dovetail.cli.run:run", "Train what a run file describes."),
    "resume": ("dovetail.cli.resume:resume", "Go on with a run that was stopped or killed."),
    "init": ("dovetail.cli.init:init", "Write a run file that trains in under a minute, offline."),
    "config": ("dovetail.cli.config:config", "Check, show and describe run files."),
    "runs": ("dovetail.cli.runs:runs", "List, show and compare runs."),
    "checkpoints": ("dovetail.cli.checkpoints:checkpoints", "List, verify, prune and export checkpoints."),
    "plugins": ("dovetail.cli.plugins:plugins", "List, describe, check and begin plugins."),
    "doctor": ("dovetail.cli.doctor:doctor", "Say what is installed here and whether it works."),
    "completion": ("dovetail.cli.completion:completion", "Print the completion script for a shell."),
}

EPILOG = (
    examples(
        "dovetail init digits.toml", "dovetail run digits.toml training.max_epochs=30", "dovetail runs show latest"
    )
    + """

\b
Exit codes:
  0    done; a run completed, or stopped early because a part said so
  1    it failed while running
  2    bad input: run file, usage, data, or a plugin that is missing or broken
  3    the run stopped cleanly because its budget was used up
  130  interrupted by Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2; a run has written a checkpoint

\b
Environment:
  DOVETAIL_NO_PLUGINS=a,b   leave these plugins out ("all": every one but Dovetail's own)
  DOVETAIL_NATIVE=0         run without the native ops
  NO_COLOR=1                no colours on the console
"""
)


class App(LazyGroup):
    """The top-level group: our own commands, and those that plugins bring."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return our commands in the order of the table, then those of plugins."""
        return [*super().list_commands(ctx), *self._from_plugins()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; no plugin can take the place of one of ours."""
        found = super().get_command(ctx, cmd_name)
        if found is None and ":" not in cmd_name and cmd_name in self._from_plugins():
            from dovetail.cli.lazy import command_of_plugin

            return command_of_plugin(cmd_name)
        return found

    def line_about(self, name: str) -> str:
        """Return the one line about a command, without importing it."""
        return super().line_about(name) or self._from_plugins().get(name, "")

    def _from_plugins(self) -> dict[str, str]:
        from dovetail.cli.lazy import plugin_commands

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
    """Train models from TOML run files, with parts that come from plugins."""


def _print_version(ctx: click.Context) -> None:
    from dovetail import __version__

    click.echo(f"dovetail {__version__}")
    ctx.exit()


def run_app(argv: list[str]) -> int:
    """Run the command line and return its exit code; every failure ends here, as a message."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    try:
        result: Any = app.main(argv, prog_name="dovetail", standalone_mode=False, obj=argv)
    except Exception as error:  # noqa: BLE001 (the last handler: nothing may reach the user as a bare traceback)
        from dovetail.cli.failure import answer
        from dovetail.distributed.environment import rank_and_size

        # Of several processes the first has standard output; what the others say is shown by whoever started them.
        return answer(error, as_json="--json" in options and rank_and_size()[0] == 0)
    return result if isinstance(result, int) else 0
