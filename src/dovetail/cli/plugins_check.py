"""``dovetail plugins check``: the conformance kit, without pytest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli import complete
from dovetail.cli.failure import FAILED
from dovetail.cli.options import CommandWithPlugins, discover, json_option, plugin_options
from dovetail.cli.text import examples

if TYPE_CHECKING:
    from dovetail.kernel.plugins import Registered
    from dovetail.spec.plugins import Plugins
    from dovetail.testkit.runner import CheckResult


@click.command(cls=CommandWithPlugins, epilog=examples("dovetail plugins check yourco", "dovetail plugins check focal"))
@click.argument("name", required=False, shell_complete=complete.components)
@click.option("--verbose", "-v", is_flag=True, help="Show the checks that passed or were left out, too.")
@json_option
@plugin_options
@click.pass_context
def check(
    ctx: click.Context, name: str | None, *, verbose: bool, as_json: bool, no_plugins: str, strict_plugins: bool
) -> None:
    """Try the part NAME, every part of the plugin NAME, or every part of every third-party plugin.

    Each claim of a part becomes a property that is tried on generated input. Exit code 1 if one fails.

    The kit needs an extra: pip install 'dovetail[testkit]'.
    """
    from dovetail.record.words import plural

    installed = discover(no_plugins, strict_plugins=strict_plugins)
    chosen = _chosen(installed, name)
    if not chosen:
        click.echo("there is no third-party part to check; 'dovetail plugins check dovetail' tries our own", err=True)
    results = [(one, _results(one, installed, verbose=verbose, quiet=as_json)) for one in chosen]
    broken = [str(one) for one in installed.broken if name in {None, one.distribution, one.entry_point}]
    failed = [found for _, found in results if any(not one.ok for one in found)]
    if as_json:
        parts = [_as_json(one, found) for one, found in results]
        click.echo(json.dumps({"parts": parts, "broken": broken}, ensure_ascii=False, indent=2))
    else:
        click.echo("".join(f"{line}\n" for line in broken), nl=False)
        tried = sum(one.status != "skipped" for _, found in results for one in found)
        word = f"{plural(len(failed), 'part')} failed" if failed else "all passed"
        click.echo(f"{plural(len(results), 'part')}, {plural(tried, 'check')}: {word}")
    ctx.exit(FAILED if failed or broken else 0)


def _chosen(installed: Plugins, name: str | None) -> list[Registered]:
    """Return the parts that ``name`` means: a part, all of a plugin, or without a name all that are not our own.

    Raises:
        UnknownComponentError: it means none.
    """
    from dovetail.cli.plugins import named_parts
    from dovetail.spec.kinds import KINDS

    offered = [one for kind in KINDS for one in installed.components(kind)]
    if name is None:
        return [one for one in offered if one.distribution != "dovetail"]
    of_plugin = [one for one in offered if name in {one.distribution, one.entry_point}]
    return of_plugin or named_parts(installed, name, list(KINDS))


def _results(part: Registered, installed: Plugins, *, verbose: bool, quiet: bool) -> list[CheckResult]:
    """Try one part, and say what became of it."""
    try:
        from dovetail.testkit.runner import run_checks

        results = run_checks(part.qualified, kind=part.kind, plugins=installed)
    except ModuleNotFoundError as error:
        if error.name not in {"hypothesis", "pytest"}:
            raise
        msg = "the conformance kit needs an extra: pip install 'dovetail[testkit]'"
        raise click.ClickException(msg) from error
    if not quiet:
        failed = [one for one in results if not one.ok]
        passed = sum(one.status == "passed" for one in results)
        word = f"{len(failed)} failed, {passed} passed" if failed else f"{passed} passed"
        click.echo(f"{part.kind} '{part.name}': {word}")
        for one in results if verbose else failed:
            click.echo(f"  {one.status:<8} {one.check}: {one.summary}")
            click.echo("".join(f"           {line}\n" for line in one.message.splitlines()), nl=False)
    return results


def _as_json(part: Registered, results: list[CheckResult]) -> dict[str, Any]:
    return {
        "kind": part.kind,
        "name": part.name,
        "distribution": part.distribution,
        "ok": all(one.ok for one in results),
        "checks": [
            {"check": one.check, "status": one.status, "message": one.message, "seconds": round(one.seconds, 3)}
            for one in results
        ],
    }
