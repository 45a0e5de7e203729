"""Options that several commands share, and what they select."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dovetail.cli import complete

if TYPE_CHECKING:
    from dovetail.config.tree import Node
    from dovetail.spec.plugins import Plugins

_Command = TypeVar("_Command", bound=Callable[..., Any])


class CommandWithPlugins(click.Command):
    """A command whose ``--no-plugins`` may stand alone: click would take the next argument for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, after giving a bare ``--no-plugins`` the value that it stands for."""
        end = args.index("--") if "--" in args else len(args)
        filled = ["--no-plugins=all" if arg == "--no-plugins" else arg for arg in args[:end]]
        return super().parse_args(ctx, filled + args[end:])


def plugin_options(command: _Command) -> _Command:
    """Add ``--no-plugins`` and ``--strict-plugins``, which arrive together as the parameters of :func:`discover`."""
    blocking = click.option(
        "--no-plugins",
        metavar="[=NAME,…]",
        default="",
        help="Leave out all plugins but Dovetail's own, or those named (distributions or entry points).",
    )
    strict = click.option("--strict-plugins", is_flag=True, help="A plugin that fails to load is an error.")
    return blocking(strict(command))


def discover(no_plugins: str, *, strict_plugins: bool) -> Plugins:
    """Return what is installed, less what ``--no-plugins`` names."""
    from dovetail.spec.plugins import Plugins

    names = [name.strip() for name in no_plugins.split(",") if name.strip()]
    return Plugins.discover(True if "all" in names else names, strict=strict_plugins)


def _only_one(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> str | None:
    """Return the one profile that was named; click would take the last of several and say nothing."""
    if len(names) > 1:
        msg = (
            f"a run has one profile, not both {names[0]} and {names[1]}; a table [profile.NAME] may hold what both set"
        )
        raise click.UsageError(msg)
    return names[0] if names else None


def run_file(command: _Command) -> _Command:
    """Add FILE, overrides and ``--profile``: what a configuration is composed from."""
    file = click.argument("file", shell_complete=complete.run_files)
    overrides = click.argument("overrides", nargs=-1, metavar="[a.b=VALUE]…", shell_complete=complete.overrides)
    profile = click.option(
        "--profile",
        "-p",
        metavar="NAME",
        multiple=True,
        callback=_only_one,
        shell_complete=complete.profiles,
        help="Lay a profile over the file: one of its [profile.NAME] tables, or an installed one.",
    )
    return file(overrides(profile(command)))


def json_option(command: _Command) -> _Command:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output, also for errors."
    )(command)


def output_option(command: _Command) -> _Command:
    """Add ``--output``, the folder of all runs."""
    return click.option(
        "--output",
        "-o",
        type=click.Path(file_okay=False),
        default="runs",
        show_default=True,
        help="The folder of all runs: paths.output of their run files.",
    )(command)


def process_options(command: _Command) -> _Command:
    """Add ``--nproc`` and ``--max-restarts``."""
    number = click.option(
        "--nproc", type=click.IntRange(1), metavar="N", help="Train in N processes, each with its own device."
    )
    restarts = click.option(
        "--max-restarts",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="How often training may be started anew, from the last checkpoint, when it fails.",
    )
    return number(restarts(command))


def compose_file(file: str, overrides: tuple[str, ...], profile: str | None, plugins: Plugins) -> Node:
    """Compose a configuration from a TOML or JSON file, without importing anything that it names.

    Raises:
        ConfigError: with every problem of its composition.
    """
    from dovetail.config.compose import compose, installed_profiles

    lay = partial(compose, profile=profile, overrides=overrides, installed_profiles=installed_profiles(plugins))
    if file.endswith(".json"):
        from dovetail.config.formats import load_json

        return load_json(file, lambda values: lay(None, base=values))
    return lay(file)
