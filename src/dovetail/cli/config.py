"""``dovetail init`` writes a first run file; ``dovetail config`` checks, shows and describes run files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli.groups import LazyGroup
from dovetail.cli.options import (
    CommandWithPlugins,
    compose_file,
    discover,
    json_option,
    plugin_options,
    run_file_arguments,
)
from dovetail.cli.output import columns, echo_json, examples
from dovetail.config.notation import dotted, inline

if TYPE_CHECKING:
    from dovetail.kernel.build import Part


@click.command(
    short_help="Write a run file that trains in under a minute, offline.",
    epilog=examples("dovetail init", "dovetail init first.toml && dovetail run first.toml"),
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("digits.toml"))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def init(file: Path, *, force: bool) -> None:
    """Write a commented run file (digits.toml by default) that trains in under a minute, offline.

    The model learns scikit-learn's handwritten digits, which need an extra: pip install 'dovetail[digits]'.
    """
    from importlib import resources

    text = resources.files("dovetail.cli").joinpath("digits.toml").read_text(encoding="utf-8")
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise click.ClickException(f"{file} already exists; use --force to replace it") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"{file}: written\n\nNext:\n  dovetail config check {file}\n  dovetail run {file}")


@click.group(
    cls=LazyGroup, epilog=examples("dovetail config check digits.toml", "dovetail config show digits.toml --origins")
)
def config() -> None:
    """Check, show and describe run files."""


@config.command(
    cls=CommandWithPlugins,
    epilog=examples("dovetail config check digits.toml training.max_epochs=30"),
)
@run_file_arguments
@json_option
@plugin_options
def check(
    file: str, overrides: tuple[str, ...], profile: str | None, *, as_json: bool, no_plugins: str, strict_plugins: bool
) -> None:
    """Check FILE without running it, and report all problems at once, with their places.

    This imports the parts that the file names, to read their parameters, but builds none.
    """
    from dovetail.config.check import check_config
    from dovetail.config.freeze import parts_of

    plugins = discover(no_plugins, strict_plugins=strict_plugins)
    checked = check_config(compose_file(file, overrides, profile, plugins), plugins)
    parts = [_part_as_json(part) for part in parts_of(checked)]
    if as_json:
        echo_json({"file": file, "parts": parts, "problems": []})
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
@run_file_arguments
@click.option("--origins", is_flag=True, help="Show where each value comes from.")
@click.option("--defaults", is_flag=True, help="Show defaults too. This imports the parts that the file names.")
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
    """Show the config of FILE with everything applied: extends, profile and overrides.

    The output is TOML, or with --origins one line per value.
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
        document = json.loads(json.dumps(values, default=_jsonable))
        if origins:
            document = {"values": document, "origins": {path: str(origin) for path, _, origin in found}}
        echo_json(document)
    elif origins:
        click.echo("\n".join(columns([[f"{path} = {inline(value)}", str(origin)] for path, value, origin in found])))
    else:
        click.echo(_toml(values), nl=False)


@config.command(epilog=examples("dovetail config schema > run.schema.json"))
@plugin_options
def schema(*, no_plugins: str, strict_plugins: bool) -> None:
    """Print a JSON schema of run files with all installed parts, for completion in editors.

    This imports every part, to read its parameters.
    """
    from dovetail.config.json_schema import json_schema

    echo_json(json_schema(discover(no_plugins, strict_plugins=strict_plugins)))


@config.command(epilog=examples("dovetail config defaults my-defaults"))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def defaults(directory: Path) -> None:
    """Write commented files with all settings and their defaults to DIRECTORY."""
    from dovetail.config.defaults import write_defaults

    for path in write_defaults(directory):
        click.echo(path)


# --- formatting -------------------------------------------------------------------------------------------------------


def _part_as_json(part: Part) -> dict[str, Any]:
    from dovetail.kernel.signature import read_signature

    if part.registered is None:
        return {"path": part.path, "name": part.name, "from": "Python", "provided": []}
    signature = read_signature(part.registered)
    return {
        "path": part.path,
        "name": part.name,
        "from": f"{part.registered.distribution} {part.registered.version}".rstrip(),
        "provided": [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.provided and parameter.name not in part.options
        ],
    }


def _toml(values: Mapping[str, Any]) -> str:
    """Return tables as TOML, with a header per section and a line per value."""
    lines: list[str] = []

    def write(table: Mapping[str, Any], path: tuple[str, ...]) -> None:
        inner = {key: value for key, value in table.items() if isinstance(value, Mapping) and value}
        plain = {key: value for key, value in table.items() if key not in inner}
        if plain and path:
            lines.extend([*([""] if lines else []), f"[{dotted(path)}]"])
        lines.extend(f"{dotted((key,))} = {inline(value)}" for key, value in plain.items())
        for key, value in inner.items():
            write(value, (*path, key))

    write({key: value for key, value in values.items() if value != {}}, ())
    return "".join(f"{line}\n" for line in lines)


def _jsonable(value: Any) -> Any:
    """Convert a value that JSON cannot represent: a secret to its reference, dates and paths to text."""
    from dovetail.kernel.secret import Env

    return {"env": value.name} if isinstance(value, Env) else str(value)
