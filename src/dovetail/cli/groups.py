"""Command groups that import a command only when it is called, and commands from plugins."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that lists its commands, with a line about each, without importing them."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        """Pass everything but ``lazy`` to ``click.Group``.

        Args:
            *args: arguments of ``click.Group``.
            lazy: (``"module:attribute"``, help line) by command name, in the order of the help.
            **kwargs: arguments of ``click.Group``.
        """
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        import importlib

        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]  # the table names commands

    def help_line(self, name: str) -> str:
        """Return the help line of a command, without importing it."""
        if name in self.lazy:
            return self.lazy[name][1]
        command = self.commands.get(name)
        return command.get_short_help_str(100) if command else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.help_line(name)) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` start with.

        Raises:
            UsageError: there is no such command; the message suggests the nearest one.
        """
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            if name.startswith("-"):
                self.parse_args(ctx, args)  # raises an error about the option
            from dovetail.config.diagnostics import suggest

            known = self.list_commands(ctx)
            hint = suggest(name, known) or f"; there is {', '.join(known)}"
            raise click.UsageError(f"unknown command '{name}'{hint}", ctx=ctx)
        return name if command else None, command, args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete the names of commands without importing them, then options."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=self.help_line(name))
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


@cache
def plugin_commands() -> dict[str, str]:
    """Return the help line of each command from a plugin. Imports plugins only if there are any besides our own."""
    from dovetail.kernel.discovery import installed_entry_points, left_out

    _, all_left_out = left_out()
    if all_left_out or all(entry.distribution == "dovetail" for entry in installed_entry_points()):
        return {}
    from dovetail.spec.plugins import Plugins

    return {part.name: part.component.summary for part in Plugins.discover().components("command")}


def load_plugin_command(name: str) -> click.Command:
    """Import and return a command from a plugin.

    Raises:
        PluginError: the command cannot be imported, is not a click command, or several plugins provide it.
    """
    from dovetail.kernel.component import PluginError
    from dovetail.spec.plugins import Plugins

    found = Plugins.discover().find("command", name)
    which = f"command '{name}' of {found.distribution} ({found.component.target})"
    try:
        command = found.component.load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{which} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(command, click.Command):
        raise PluginError(f"{which} is not a click command but a {type(command).__name__}")
    return command
