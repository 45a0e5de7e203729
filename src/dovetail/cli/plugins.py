"""``dovetail plugins``: list and describe installed plugins and parts, create a plugin, and check parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli import completion
from dovetail.cli.groups import LazyGroup
from dovetail.cli.options import CommandWithPlugins, discover, json_option, plugin_options
from dovetail.cli.output import columns, echo_json, examples
from dovetail.spec.process import FAILED

if TYPE_CHECKING:
    from dovetail.kernel.plugins import Plugin, Registered
    from dovetail.spec.plugins import Plugins
    from dovetail.testkit.runner import CheckResult


@click.group(cls=LazyGroup, epilog=examples("dovetail plugins list --kind loss", "dovetail plugins info focal"))
def plugins() -> None:
    """List, describe, check and create plugins."""


@plugins.command(
    "list", cls=CommandWithPlugins, epilog=examples("dovetail plugins list", "dovetail plugins list --kind loss")
)
@click.option(
    "--kind",
    metavar="KIND",
    shell_complete=completion.kinds,
    help="List only parts of this kind: loss, model, scheduler …",
)
@json_option
@plugin_options
def list_(*, kind: str | None, as_json: bool, no_plugins: str, strict_plugins: bool) -> None:
    """List the installed plugins and their parts. This imports no part."""
    installed = discover(no_plugins, strict_plugins=strict_plugins)
    parts = {name: installed.components(name) for name in _kinds(kind)}
    if as_json:
        document = {
            "plugins": [_plugin_as_json(plugin, installed) for plugin in installed.plugins],
            "parts": [
                {
                    "kind": part.kind,
                    "name": part.name,
                    "distribution": part.distribution,
                    "summary": part.component.summary,
                }
                for found in parts.values()
                for part in found
            ],
        }
        echo_json(document)
        return
    if kind is None:
        rows = [
            [plugin.distribution, plugin.version, plugin.entry_point, plugin.state, "; ".join(plugin.remarks)]
            for plugin in installed.plugins
        ]
        click.echo("\n".join(columns(rows, head=["PLUGIN", "VERSION", "ENTRY POINT", "STATE", ""])))
        for broken in installed.broken:
            click.echo(f"  {broken}")
    for name, found in parts.items():
        if found:
            click.echo(f"\n{name}:" if kind is None else f"{name}:")
            rows = [[part.name, part.component.summary] for part in found]
            if len({part.distribution for part in found}) > 1:
                rows = [[part.name, part.distribution, part.component.summary] for part in found]
            click.echo("\n".join(columns(rows, indent="  ")))
        elif kind is not None:
            click.echo(f"there is no part of kind {kind}")


@plugins.command(
    cls=CommandWithPlugins, epilog=examples("dovetail plugins info focal", "dovetail plugins info dovetail")
)
@click.argument("name", shell_complete=completion.components)
@click.option("--kind", metavar="KIND", help="The kind of the part, if parts of several kinds have this name.")
@json_option
@plugin_options
def info(name: str, *, kind: str | None, as_json: bool, no_plugins: str, strict_plugins: bool) -> None:
    """Describe the part NAME and its keys, with types, defaults and limits; or the plugin NAME.

    This imports the part.
    """
    from dovetail.cli.describe import describe_part, describe_plugin, part_as_json

    installed = discover(no_plugins, strict_plugins=strict_plugins)
    found_plugins = (
        [plugin for plugin in installed.plugins if name in {plugin.distribution, plugin.entry_point}]
        if kind is None
        else []
    )
    found = [] if found_plugins else _find_parts(installed, name, _kinds(kind))
    if as_json:
        document = {
            "parts": [part_as_json(part) for part in found],
            "plugins": [_plugin_as_json(plugin, installed) for plugin in found_plugins],
        }
        echo_json(document, default=str)
        return
    texts = [describe_plugin(plugin, installed) for plugin in found_plugins] + [describe_part(part) for part in found]
    click.echo("\n\n".join(texts))


@plugins.command(epilog=examples("dovetail plugins new yourco", "cd yourco && pip install -e '.[dev]' && pytest"))
@click.argument("name")
@click.option(
    "--directory",
    "-d",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder to create it in; the current folder by default.",
)
def new(name: str, *, directory: Path) -> None:
    """Create a package NAME with sample parts, an entry point and conformance tests, ready to install."""
    from dovetail.testkit.template import write_plugin

    folder = write_plugin(name, directory)
    click.echo(f"{folder}: written\n\nNext:\n  cd {folder}\n  pip install -e '.[dev]'\n  pytest")


# --- check ------------------------------------------------------------------------------------------------------------


@plugins.command(
    cls=CommandWithPlugins, epilog=examples("dovetail plugins check yourco", "dovetail plugins check focal")
)
@click.argument("name", required=False, shell_complete=completion.components)
@click.option("--verbose", "-v", is_flag=True, help="Show passed and skipped checks too.")
@json_option
@plugin_options
@click.pass_context
def check(
    ctx: click.Context, name: str | None, *, verbose: bool, as_json: bool, no_plugins: str, strict_plugins: bool
) -> None:
    """Check parts with the conformance kit: part NAME, all parts of plugin NAME, or all third-party parts.

    The kit tests each claim of a part on generated inputs. The exit code is 1 if a check fails.

    The kit needs an extra: pip install 'dovetail[testkit]'.
    """
    from dovetail.record.formatting import plural

    installed = discover(no_plugins, strict_plugins=strict_plugins)
    parts = _parts_to_check(installed, name)
    if not parts:
        click.echo("no third-party parts to check; 'dovetail plugins check dovetail' checks Dovetail's own", err=True)
    results = [(part, _check(part, installed, verbose=verbose, quiet=as_json)) for part in parts]
    broken = [str(plugin) for plugin in installed.broken if name in {None, plugin.distribution, plugin.entry_point}]
    failed = [found for _, found in results if any(not result.ok for result in found)]
    if as_json:
        echo_json({"parts": [_results_as_json(part, found) for part, found in results], "broken": broken})
    else:
        click.echo("".join(f"{line}\n" for line in broken), nl=False)
        checks = sum(result.status != "skipped" for _, found in results for result in found)
        verdict = f"{plural(len(failed), 'part')} failed" if failed else "all passed"
        click.echo(f"{plural(len(results), 'part')}, {plural(checks, 'check')}: {verdict}")
    ctx.exit(FAILED if failed or broken else 0)


def _parts_to_check(installed: Plugins, name: str | None) -> list[Registered]:
    """Return the part ``name``, all parts of the plugin ``name``, or without a name all third-party parts.

    Raises:
        UnknownComponentError: there is no such part or plugin.
    """
    from dovetail.spec.kinds import KINDS

    parts = [part for kind in KINDS for part in installed.components(kind)]
    if name is None:
        return [part for part in parts if part.distribution != "dovetail"]
    return [part for part in parts if name in {part.distribution, part.entry_point}] or _find_parts(
        installed, name, list(KINDS)
    )


def _check(part: Registered, installed: Plugins, *, verbose: bool, quiet: bool) -> list[CheckResult]:
    """Check one part, print its results unless ``quiet``, and return them."""
    try:
        from dovetail.testkit.runner import run_checks

        results = run_checks(part.qualified, kind=part.kind, plugins=installed)
    except ModuleNotFoundError as error:
        if error.name not in {"hypothesis", "pytest"}:
            raise
        raise click.ClickException("the conformance kit needs an extra: pip install 'dovetail[testkit]'") from error
    if not quiet:
        failed = [result for result in results if not result.ok]
        passed = sum(result.status == "passed" for result in results)
        verdict = f"{len(failed)} failed, {passed} passed" if failed else f"{passed} passed"
        click.echo(f"{part.kind} '{part.name}': {verdict}")
        for result in results if verbose else failed:
            click.echo(f"  {result.status:<8} {result.check}: {result.summary}")
            click.echo("".join(f"           {line}\n" for line in result.message.splitlines()), nl=False)
    return results


def _results_as_json(part: Registered, results: list[CheckResult]) -> dict[str, Any]:
    return {
        "kind": part.kind,
        "name": part.name,
        "distribution": part.distribution,
        "ok": all(result.ok for result in results),
        "checks": [
            {
                "check": result.check,
                "status": result.status,
                "message": result.message,
                "seconds": round(result.seconds, 3),
            }
            for result in results
        ],
    }


# --- look-up ----------------------------------------------------------------------------------------------------------


def _kinds(kind: str | None) -> list[str]:
    """Return all kinds, or only ``kind``.

    Raises:
        UsageError: there is no such kind.
    """
    from dovetail.spec.kinds import KINDS

    if kind is None:
        return list(KINDS)
    if kind not in KINDS:
        from dovetail.config.diagnostics import suggest

        hint = suggest(kind, KINDS) or f"; there is {', '.join(KINDS)}"
        raise click.UsageError(f"there is no kind '{kind}'{hint}", ctx=click.get_current_context())
    return [kind]


def _find_parts(installed: Plugins, name: str, kinds: list[str]) -> list[Registered]:
    """Return every part of ``kinds`` named ``name``, which may be ``"distribution:name"``.

    Raises:
        UnknownComponentError: there is none; the message suggests the nearest name.
    """
    from dovetail.config.diagnostics import nearest
    from dovetail.kernel.plugins import UnknownComponentError

    parts = [part for kind in kinds for part in installed.components(kind)]
    found = [part for part in parts if name in {part.name, part.qualified}]
    if found:
        return found
    names = sorted({part.name for part in parts})
    near = nearest(name, names)
    hint = f"did you mean '{near}'?" if near else "; ".join(map(str, installed.broken))
    raise UnknownComponentError(kinds[0] if len(kinds) == 1 else "part", name, names, hint)


def _plugin_as_json(plugin: Plugin, installed: Plugins) -> dict[str, Any]:
    errors = [str(broken) for broken in installed.broken if broken.entry_point == plugin.entry_point]
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.entry_point,
        "module": plugin.module,
        "state": plugin.state,
        "remarks": list(plugin.remarks),
        "error": errors[0] if errors and plugin.state == "broken" else None,
    }
