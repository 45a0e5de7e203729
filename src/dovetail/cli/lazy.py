"""Groups whose commands are imported only when one is called, and which say what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows where its commands live, and a line about each, without importing them."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        """Take click's own arguments.

        Args:
            *args: as for ``click.Group``.
            lazy: (``"module:attribute"``, line for the help) by name, in the order in which they are listed.
            **kwargs: as for ``click.Group``.
        """
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they are listed."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        import importlib

        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]  # the table names commands

    def line_about(self, name: str) -> str:
        """Return the one line about a command, without importing it."""
        if name in self.lazy:
            return self.lazy[name][1]
        command = self.commands.get(name)
        return command.get_short_help_str(100) if command else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.line_about(name)) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begin with.

        Raises:
            UsageError: there is none; says which was meant.
        """
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            if name.startswith("-"):
                self.parse_args(ctx, args)  # complains about the option
            from dovetail.config.diagnostics import suggest

            known = self.list_commands(ctx)
            meant = suggest(name, known) or f"; there is {', '.join(known)}"
            raise click.UsageError(f"unknown command '{name}'{meant}", ctx=ctx)
        return name if command else None, command, args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete names of commands without importing them, then options."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=self.line_about(name))
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


@cache
def plugin_commands() -> dict[str, str]:
    """Return the line about each command that plugins bring; imports them only where there may be any but our own."""
    from dovetail.kernel.discovery import installed_entry_points, left_out

    _, all_left_out = left_out()
    if all_left_out or all(entry.distribution == "dovetail" for entry in installed_entry_points()):
        return {}
    from dovetail.spec.plugins import Plugins

    return {one.name: one.component.summary for one in Plugins.discover().components("command")}


def command_of_plugin(name: str) -> click.Command:
    """Import and return a command that a plugin brings.

    Raises:
        PluginError: it cannot be imported, is no command, or several plugins offer one of this name.
    """
    from dovetail.kernel.component import PluginError
    from dovetail.spec.plugins import Plugins

    found = Plugins.discover().find("command", name)
    who = f"command '{name}' of {found.distribution} ({found.component.target})"
    try:
        command = found.component.load()
    except (Exception, SystemExit) as error:
        msg = f"{who} cannot be imported: {type(error).__name__}: {error}"
        raise PluginError(msg) from error
    if not isinstance(command, click.Command):
        msg = f"{who} is no click command but {type(command).__name__}"
        raise PluginError(msg)
    return command
