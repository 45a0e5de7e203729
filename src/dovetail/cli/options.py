"""Options that several commands have, and functions that apply them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dovetail.cli import completion

if TYPE_CHECKING:
    from dovetail.config.tree import Node
    from dovetail.spec.plugins import Plugins

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: How commands that take a run explain their argument.
RUN_REFERENCE = (
    'RUN is the start of an id (or of its last six digits), a run\'s name for its newest run, "latest" (or "latest~1" '
    "for the run before it), or the path of a run folder."
)


class CommandWithPlugins(click.Command):
    """A command with a ``--no-plugins`` option whose value is optional.

    Click would take the next argument as the value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with a bare ``--no-plugins`` read as ``--no-plugins=all``."""
        end = args.index("--") if "--" in args else len(args)
        filled = ["--no-plugins=all" if arg == "--no-plugins" else arg for arg in args[:end]]
        return super().parse_args(ctx, filled + args[end:])


def plugin_options(command: _Command) -> _Command:
    """Add ``--no-plugins`` and ``--strict-plugins``, the parameters of :func:`discover`."""
    blocking = click.option(
        "--no-plugins",
        metavar="[=NAME,…]",
        default="",
        help="Do not load these plugins (distributions or entry points); without names, all but Dovetail's own.",
    )
    strict = click.option("--strict-plugins", is_flag=True, help="Fail if a plugin cannot be loaded.")
    return blocking(strict(command))


def discover(no_plugins: str, *, strict_plugins: bool) -> Plugins:
    """Return the installed plugins without those that ``--no-plugins`` names."""
    from dovetail.spec.plugins import Plugins

    names = [name.strip() for name in no_plugins.split(",") if name.strip()]
    return Plugins.discover(True if "all" in names else names, strict=strict_plugins)


def _single_profile(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> str | None:
    """Return the profile; click would silently use the last of several."""
    if len(names) > 1:
        raise click.UsageError(
            f"only one profile can be used, not both {names[0]} and {names[1]}; combine them in a table [profile.NAME]"
        )
    return names[0] if names else None


def run_file_arguments(command: _Command) -> _Command:
    """Add FILE, overrides and ``--profile``, from which a config is composed."""
    file = click.argument("file", shell_complete=completion.run_files)
    overrides = click.argument("overrides", nargs=-1, metavar="[a.b=VALUE]…", shell_complete=completion.overrides)
    profile = click.option(
        "--profile",
        "-p",
        metavar="NAME",
        multiple=True,
        callback=_single_profile,
        shell_complete=completion.profiles,
        help="Apply a profile: a [profile.NAME] table of the file, or an installed profile.",
    )
    return file(overrides(profile(command)))


def json_option(command: _Command) -> _Command:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output, for errors too."
    )(command)


def output_option(command: _Command) -> _Command:
    """Add ``--output``, the folder of all runs."""
    return click.option(
        "--output",
        "-o",
        type=click.Path(file_okay=False),
        default="runs",
        show_default=True,
        help="The folder of all runs (paths.output in a run file).",
    )(command)


def quiet_option(command: _Command) -> _Command:
    """Add ``--quiet``."""
    return click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")(command)


def process_options(command: _Command) -> _Command:
    """Add ``--nproc`` and ``--max-restarts``."""
    number = click.option(
        "--nproc", type=click.IntRange(1), metavar="N", help="Train in N processes, each on its own device."
    )
    restarts = click.option(
        "--max-restarts",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="If training fails, restart it from the last checkpoint, up to N times.",
    )
    return number(restarts(command))


def compose_file(file: str, overrides: tuple[str, ...], profile: str | None, plugins: Plugins) -> Node:
    """Compose a config from a TOML or JSON file, without importing the parts it names.

    Raises:
        ConfigError: the file cannot be composed; names every problem.
    """
    from dovetail.config.compose import compose, installed_profiles

    layered = partial(compose, profile=profile, overrides=overrides, installed_profiles=installed_profiles(plugins))
    if file.endswith(".json"):
        from dovetail.config.formats import load_json

        return load_json(file, lambda values: layered(None, base=values))
    return layered(file)
