"""``dovetail plugins``: what is installed, what a part takes, beginning and trying one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli import complete
from dovetail.cli.lazy import LazyGroup
from dovetail.cli.options import CommandWithPlugins, discover, json_option, plugin_options
from dovetail.cli.text import columns, examples

if TYPE_CHECKING:
    from dovetail.kernel.plugins import Plugin, Registered
    from dovetail.spec.plugins import Plugins


@click.group(
    cls=LazyGroup,
    lazy={"check": ("dovetail.cli.plugins_check:check", "Try parts with the conformance kit.")},
    epilog=examples("dovetail plugins list --kind loss", "dovetail plugins info focal"),
)
def plugins() -> None:
    """List, describe, check and begin plugins."""


@plugins.command(
    "list", cls=CommandWithPlugins, epilog=examples("dovetail plugins list", "dovetail plugins list --kind loss")
)
@click.option(
    "--kind", metavar="KIND", shell_complete=complete.kinds, help="Only parts of this kind: loss, model, scheduler …"
)
@json_option
@plugin_options
def list_(*, kind: str | None, as_json: bool, no_plugins: str, strict_plugins: bool) -> None:
    """List the installed plugins, and the parts that they bring. Imports none of the parts."""
    installed = discover(no_plugins, strict_plugins=strict_plugins)
    kinds = _kinds(kind)
    parts = {one: installed.components(one) for one in kinds}
    if as_json:
        document = {
            "plugins": [_plugin_as_json(one, installed) for one in installed.plugins],
            "parts": [
                {"kind": one.kind, "name": one.name, "distribution": one.distribution, "summary": one.component.summary}
                for found in parts.values()
                for one in found
            ],
        }
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    if kind is None:
        rows = [
            [one.distribution, one.version, one.entry_point, one.state, "; ".join(one.remarks)]
            for one in installed.plugins
        ]
        click.echo("\n".join(columns(rows, head=["PLUGIN", "VERSION", "ENTRY POINT", "STATE", ""])))
        for broken in installed.broken:
            click.echo(f"  {broken}")
    for name, found in parts.items():
        if found:
            click.echo(f"\n{name}:" if kind is None else f"{name}:")
            several = len({one.distribution for one in found}) > 1
            rows = [[one.name, one.component.summary] for one in found]
            if several:
                rows = [[one.name, one.distribution, one.component.summary] for one in found]
            click.echo("\n".join(columns(rows, indent="  ")))
        elif kind is not None:
            click.echo(f"there is no {kind}")


@plugins.command(
    cls=CommandWithPlugins, epilog=examples("dovetail plugins info focal", "dovetail plugins info dovetail")
)
@click.argument("name", shell_complete=complete.components)
@click.option("--kind", metavar="KIND", help="Only the part of this kind, where several kinds have one of this name.")
@json_option
@plugin_options
def info(name: str, *, kind: str | None, as_json: bool, no_plugins: str, strict_plugins: bool) -> None:
    """Describe the part NAME: what it takes, with types, defaults and limits. Or the plugin of that name.

    Imports the part.
    """
    from dovetail.cli.describe import describe_part, describe_plugin, part_as_json

    installed = discover(no_plugins, strict_plugins=strict_plugins)
    of_plugin = (
        [one for one in installed.plugins if name in {one.distribution, one.entry_point}] if kind is None else []
    )
    found = [] if of_plugin else named_parts(installed, name, _kinds(kind))
    if as_json:
        document = {
            "parts": [part_as_json(one) for one in found],
            "plugins": [_plugin_as_json(one, installed) for one in of_plugin],
        }
        click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))
        return
    texts = [describe_plugin(one, installed) for one in of_plugin] + [describe_part(one) for one in found]
    click.echo("\n\n".join(texts))


@plugins.command(epilog=examples("dovetail plugins new yourco", "cd yourco && pip install -e '.[dev]' && pytest"))
@click.argument("name")
@click.option(
    "--directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to write it; the current folder by default.",
)
def new(name: str, *, directory: Path) -> None:
    """Write a package NAME with parts of its own, its entry point and its conformance tests, ready to install."""
    from dovetail.testkit.template import write_plugin

    folder = write_plugin(name, directory)
    click.echo(f"{folder}: written\n\nNext:\n  cd {folder}\n  pip install -e '.[dev]'\n  pytest")


# --- shared -----------------------------------------------------------------------------------------------------------


def _kinds(kind: str | None) -> list[str]:
    """Return the kinds to look through.

    Raises:
        UsageError: there is no such kind.
    """
    from dovetail.spec.kinds import KINDS

    if kind is None:
        return list(KINDS)
    if kind not in KINDS:
        from dovetail.config.diagnostics import suggest

        meant = suggest(kind, KINDS) or f"; there is {', '.join(KINDS)}"
        msg = f"there is no kind '{kind}'{meant}"
        raise click.UsageError(msg, ctx=click.get_current_context())
    return [kind]


def named_parts(installed: Plugins, name: str, kinds: list[str]) -> list[Registered]:
    """Return every part of ``kinds`` that is called ``name``, plain or ``"distribution:name"``.

    Raises:
        UnknownComponentError: there is none; says which is near.
    """
    from dovetail.config.diagnostics import nearest
    from dovetail.kernel.plugins import UnknownComponentError

    offered = [one for kind in kinds for one in installed.components(kind)]
    found = [one for one in offered if name in {one.name, one.qualified}]
    if found:
        return found
    names = sorted({one.name for one in offered})
    near = nearest(name, names)
    hint = f"did you mean '{near}'?" if near else "; ".join(map(str, installed.broken))
    raise UnknownComponentError(kinds[0] if len(kinds) == 1 else "part", name, names, hint)


def _plugin_as_json(plugin: Plugin, installed: Plugins) -> dict[str, Any]:
    errors = [str(one) for one in installed.broken if one.entry_point == plugin.entry_point]
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.entry_point,
        "module": plugin.module,
        "state": plugin.state,
        "remarks": list(plugin.remarks),
        "error": errors[0] if errors and plugin.state == "broken" else None,
    }
