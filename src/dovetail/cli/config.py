"""``dovetail config``: check, show and describe run files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli.lazy import LazyGroup
from dovetail.cli.options import (
    CommandWithPlugins,
    compose_file,
    discover,
    json_option,
    plugin_options,
    run_file,
)
from dovetail.cli.text import columns, examples
from dovetail.config.notation import dotted, inline

if TYPE_CHECKING:
    from dovetail.kernel.build import Part


@click.group(
    cls=LazyGroup, epilog=examples("dovetail config check digits.toml", "dovetail config show digits.toml --origins")
)
def config() -> None:
    """Check, show and describe run files."""


@config.command(
    cls=CommandWithPlugins,
    epilog=examples("dovetail config check digits.toml training.max_epochs=30"),
)
@run_file
@json_option
@plugin_options
def check(
    file: str, overrides: tuple[str, ...], profile: str | None, *, as_json: bool, no_plugins: str, strict_plugins: bool
) -> None:
    """Check FILE without running it: every problem at once, with its place.

    Imports the parts that the file names, and only those, to read what they take. Builds nothing.
    """
    from dovetail.config.check import check_config
    from dovetail.config.freeze import parts_of

    plugins = discover(no_plugins, strict_plugins=strict_plugins)
    checked = check_config(compose_file(file, overrides, profile, plugins), plugins)
    parts = [_about(part) for part in parts_of(checked)]
    if as_json:
        click.echo(json.dumps({"file": file, "parts": parts, "problems": []}, ensure_ascii=False, indent=2))
        return
    click.echo(f"{file}: ok")
    rows = [
        [
            part["path"],
            part["name"],
            f"({part['from']})",
            f"the run provides {', '.join(part['provided'])}" if part["provided"] else "",
        ]
        for part in parts
    ]
    click.echo("\n".join(columns(rows, indent="  ")))


@config.command(
    cls=CommandWithPlugins,
    epilog=examples("dovetail config show digits.toml --origins", "dovetail config show digits.toml --defaults"),
)
@run_file
@click.option("--origins", is_flag=True, help="Say of each value where it comes from.")
@click.option("--defaults", is_flag=True, help="Show the defaults too; this imports the parts that the file names.")
@json_option
@plugin_options
def show(
    file: str,
    overrides: tuple[str, ...],
    profile: str | None,
    *,
    origins: bool,
    defaults: bool,
    as_json: bool,
    no_plugins: str,
    strict_plugins: bool,
) -> None:
    """Show what FILE says when everything is put together: extends, profile, overrides.

    As TOML, or with --origins as one line per value.
    """
    plugins = discover(no_plugins, strict_plugins=strict_plugins)
    tree = compose_file(file, overrides, profile, plugins)
    if defaults:
        from dovetail.config.check import check_config
        from dovetail.config.freeze import leaves

        checked = check_config(tree, plugins)
        values, found = checked.to_dict(), leaves(checked)
    else:
        from dovetail.config.tree import flatten

        values, found = tree.to_python(), flatten(tree)
    if as_json:
        document = json.loads(json.dumps(values, default=_plain))
        if origins:
            document = {"values": document, "origins": {path: str(origin) for path, _, origin in found}}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    elif origins:
        click.echo("\n".join(columns([[f"{path} = {inline(value)}", str(origin)] for path, value, origin in found])))
    else:
        click.echo(_toml(values), nl=False)


@config.command(epilog=examples("dovetail config schema > run.schema.json"))
@plugin_options
def schema(*, no_plugins: str, strict_plugins: bool) -> None:
    """Print a JSON schema of run files with all installed parts, for completion in editors.

    Imports every part, to read what it takes.
    """
    from dovetail.config.json_schema import json_schema

    click.echo(
        json.dumps(json_schema(discover(no_plugins, strict_plugins=strict_plugins)), ensure_ascii=False, indent=2)
    )


@config.command(epilog=examples("dovetail config defaults my-defaults"))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def defaults(directory: Path) -> None:
    """Write commented files with every setting and its default to DIRECTORY."""
    from dovetail.config.defaults import write_defaults

    for path in write_defaults(directory):
        click.echo(path)


# --- what a configuration holds --------------------------------------------------------------------------------------


def _about(part: Part) -> dict[str, Any]:
    from dovetail.kernel.signature import read_signature

    if part.registered is None:
        return {"path": part.path, "name": part.name, "from": "Python", "provided": []}
    signature = read_signature(part.registered)
    return {
        "path": part.path,
        "name": part.name,
        "from": f"{part.registered.distribution} {part.registered.version}".rstrip(),
        "provided": [
            one.name for one in signature.parameters.values() if one.provided and one.name not in part.options
        ],
    }


def _toml(values: Mapping[str, Any]) -> str:
    """Return tables as TOML: a header per section, a line per value."""
    lines: list[str] = []

    def write(table: Mapping[str, Any], path: tuple[str, ...]) -> None:
        inner = {key: one for key, one in table.items() if isinstance(one, Mapping) and one}
        plain = {key: one for key, one in table.items() if key not in inner}
        if plain and path:
            lines.extend([*([""] if lines else []), f"[{dotted(path)}]"])
        lines.extend(f"{dotted((key,))} = {inline(one)}" for key, one in plain.items())
        for key, value in inner.items():
            write(value, (*path, key))

    write({key: one for key, one in values.items() if one != {}}, ())
    return "".join(f"{line}\n" for line in lines)


def _plain(value: Any) -> Any:
    """Return what JSON has no notation for: a secret as its reference, dates and paths as text."""
    from dovetail.kernel.secret import Env

    return {"env": value.name} if isinstance(value, Env) else str(value)
